"""The notifier: tells the app's own backend what happened, signed (Standard Webhooks), until it takes it.

consumes  purchase.completed, purchase.rejected, purchase.refunded, purchase.refund_reversed, wallet.credited,
          wallet.debited, refund_request.updated, subscription.updated, entitlement.changed
emits     webhook.delivered, webhook.exhausted, webhook.endpoint_disabled, webhook.endpoint_enabled
owns      schema `notifier`: one row per event and endpoint, its attempts with their answers, how each endpoint does

Three processes: one decides who is to hear of an event, and gives it its place in the feed (no call outside); one makes
the calls, so that an endpoint that is slow never holds up the first; one answers operators, behind the gateway.
"""
