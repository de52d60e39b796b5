// Takes Purser's webhooks: each event takes effect once, and what is older than what is known takes none.
import { createServer } from "node:http";
import { DatabaseSync } from "node:sqlite";
import { buffer } from "node:stream/consumers";
import { Webhook } from "standardwebhooks";

const webhook = new Webhook(process.env.WEBHOOK_SECRET), database = new DatabaseSync(process.env.DATABASE);
database.exec("create table if not exists heard (event primary key, thing, version, data)");
database.exec("create index if not exists newest on heard (thing, version)");
const hear = database.prepare("insert or ignore into heard values (?, ?, ?, ?)");
const newer = database.prepare("select 1 from heard where thing = ? and version > ?");

function take({ "webhook-id": event }, { type, data }) {
  const about = "version" in data ? [data.environment, data.user_id, data.id, data.currency] : [data.id];
  const thing = JSON.stringify(about), version = data.version ?? event;
  const isNew = hear.run(event, thing, version, JSON.stringify(data)).changes;
  if (isNew && !newer.get(thing, version)) console.log(event, type); // what you do about it: in this transaction
}

async function receive(request) {
  if (request.url !== "/hooks" || !(request.headers["content-length"] <= 65536)) return 404;
  const body = await buffer(request); // the bytes as they came: they are signed
  try { webhook.verify(body, request.headers); } catch { return 401; }
  database.exec("begin"); // all of it is committed, or nothing
  try { take(request.headers, JSON.parse(body)); } catch (error) { database.exec("rollback"); throw error; }
  database.exec("commit");
  return 204;
}
createServer((request, response) => receive(request).catch((error) => (console.error(error), 500))
  .then((status) => response.writeHead(status).end())).listen(process.env.PORT, "127.0.0.1");
