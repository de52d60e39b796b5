"""The App Store on your laptop.

Purpose: sells the catalogue's products to customers who do not exist, and then behaves as the App Store does: signs
transactions under a root of its own, answers verifyReceipt, refunds, notifies the gateway, and fails on command.
Consumes: HTTP (`POST /verifyReceipt`, the App Store Server API under `/inApps`, OCSP, the control calls under `/_sim`).
Emits: App Store Server Notifications V2, posted to the gateway.
Owns: its memory (customers, transactions, notifications) and, on disk, nothing but its certificates. A receipt carries
its transactions, so that it is still answered after a restart; the Server API answers what is in the memory.

What it must never do is agree with the verifier by construction: the two share no verification code, and Apple's own
library is for tests, which judge it with that.

    app             the wiring, and `build()` for who wants the store without HTTP
    api             HTTP, translated: verifyReceipt, OCSP, control (`api_bodies` are what these calls take, `api_views`
                    what they answer), `api_subscriptions` the control of subscriptions
    server_api      HTTP, translated: the App Store Server API (`api_queries` reads, `api_errors` are Apple's codes)
    storefront      the use-cases: buy, refund, reverse, decline, request, revoke, finish, verify a receipt
    subscribers     the use-cases of subscriptions: what befalls one, on command or in time; the store's own truth
    telling         what happened: signed, in the receipt, and to the gateway
    shelf           what is on sale
    agenda          what is due of subscriptions, and the thread that makes it happen
    records         the use-cases of the Server API: what happened, told again; test notifications
    tokens          who may call the Server API
    rates           how often, where limits are in force
    ocsp            whether its certificates were revoked
    state           customers, transactions and subscriptions, in memory
    notifications   the sender: a bounded queue, worker threads, Apple's retry schedule; `notification_log` remembers
    faults          what goes wrong on command; `transport` is how that arrives
    receipts        the opaque receipt, and verifyReceipt's answers
    payloads        what is signed, in Apple's field names and units
    signing         ES256 JWS with the certificate chain
    certificates    root, intermediate and leaf with Apple's marker OIDs
    domain          the values and the rules of refunds
    sales           who may buy what, and what comes of it
    subscriptions   a subscription and how it stands; `lives` and `choices` are what befalls it, made of `steps`
    lengths         how long things last: by the calendar, or with a month of so many seconds
"""
