"""The ledger: virtual currency in wallets, by double entry; what a purchase gives, a refund takes back, users spend.
Beside it subscriptions, and what users may use.

consumes  purchase.verified, refund.received, refund.reversed, refund.declined, subscription.changed; what the gateway
          forwards to its API
emits     purchase.completed, purchase.parked, purchase.refunded, purchase.refund_reversed, wallet.credited,
          wallet.debited, refund_request.updated, subscription.updated, entitlement.changed; and for the record
          spend.posted, spend.reversed, hold.placed, hold.ended, grant.posted
owns      schema `ledger`: wallets, accounts, transfers, entries and lots; spends, holds, requests for refunds, answers
          that were given; what is known of each store transaction; subscriptions, entitlements and what gives them;
          audits
"""
