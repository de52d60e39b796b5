"""The ledger: virtual currency in wallets, by double entry; what a purchase gives, a refund takes back.

consumes  purchase.verified, refund.received
emits     purchase.completed, purchase.parked, purchase.refunded, wallet.credited, wallet.debited
owns      schema `ledger`: wallets, accounts, transfers, entries, and what is known of each store transaction
"""
