"""The App Store on your laptop.

Purpose: sells the catalogue's products to customers who do not exist, and then behaves as the App Store does: signs
transactions under a root of its own, answers verifyReceipt, refunds, notifies the gateway, and fails on command.
Consumes: HTTP (`POST /verifyReceipt` and the control calls under `/_sim`).
Emits: App Store Server Notifications V2, posted to the gateway.
Owns: its memory (customers, transactions, notifications) and, on disk, nothing but its certificates. A receipt carries
its transactions, so that it is still answered after a restart.

What it must never do is agree with the verifier by construction: the two share no verification code.

    app             the wiring, and `build()` for who wants the store without HTTP
    api             HTTP, translated
    storefront      the use-cases: buy, refund, reverse, decline, request, revoke, finish, verify a receipt
    state           customers and transactions, in memory
    notifications   the sender: a bounded queue, worker threads, Apple's retry schedule
    faults          what goes wrong on command
    receipts        the opaque receipt, and verifyReceipt's answers
    payloads        what is signed, in Apple's field names and units
    signing         ES256 JWS with the certificate chain
    certificates    root, intermediate and leaf with Apple's marker OIDs
    domain          the values and the rules of a sale
"""
