"""The notifier: tells the app's own backend what happened, signed (Standard Webhooks), until it takes it.

consumes  purchase.completed, purchase.rejected, purchase.refunded, purchase.refund_reversed, wallet.credited,
          wallet.debited, refund_request.updated, subscription.updated, entitlement.changed; webhook.queued
emits     webhook.queued, webhook.delivered, webhook.exhausted
owns      schema `notifier`: one row per event and endpoint, its attempts with their answers, endpoints switched off

Two workers: one decides who is to hear of an event (no call outside), the other makes the calls, so that an endpoint
that is slow never holds up the first.
"""
