"""The verifier: asks the store, or checks its signature, and decides whose a transaction is.

consumes  receipt.submitted, transaction.submitted, notification.received, account_token.issued
emits     purchase.verified, purchase.rejected, refund.received, refund.reversed, refund.declined
owns      schema `verifier`: one row per store transaction with its owner and its newest facts; issued account tokens
"""
