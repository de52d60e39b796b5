"""The gateway: thin HTTP in front of the journal. What it accepts is durable; what it answers is read back.

consumes  HTTP: apps and their backends (/v1/…), the App Store (/webhooks/apple), operators (/healthz, /readyz)
emits     receipt.submitted, transaction.submitted, notification.received, account_token.issued
owns      nothing but the HTTP contract: purchases and events are read from the journal; wallets, spends, holds,
          grants, subscriptions, entitlements and requests for refunds are the ledger's, and what becomes of webhooks is
          the notifier's, to whose APIs those calls are handed on
"""
