"""The verifier: asks the store, or checks its signature, and decides whose a transaction is.

consumes  receipt.submitted, transaction_id.submitted, transaction.submitted, notification.received,
          subscription.reported, account_token.issued
emits     purchase.verified, purchase.rejected, refund.received, refund.reversed, refund.declined,
          subscription.changed; and what never came: notification.received, subscription.reported
owns      schema `verifier`: one row per store transaction with its owner and its newest facts, and per subscription;
          issued account tokens; how far the store was asked what it had said
"""
