"""The App Store's signatures: what is signed by it, and what is not.

The one place where Apple's JWS (RFC 7515, compact) are verified: the gateway authenticates webhooks with it, the
verifier everything else. It knows certificates and signatures; what the claims mean is the business of who reads them.

The rules are those of Apple's own library, and some more. Whatever the input, only the named errors come out of here.

- Three segments of strict base64url; the header says `alg` ES256 and carries three certificates (`x5c`).
- The leaf was issued by the intermediate, that by a root which we trust: one that is configured, or the third
  certificate if its SHA-256 is pinned. The third certificate is trusted for nothing else.
- Leaf and intermediate carry Apple's marker extensions: many certificates end at Apple's root, every developer's too,
  and only those with the markers sign receipts.
- All three certificates were valid when the payload says that it was signed (`signedDate`), or now if it does not say.
  A date in the future is refused, and a chain that has expired vouches for its past only within a stated window,
  because whoever finds an old key could sign for the past for ever.
- If revocation is asked about, leaf and intermediate are valid now, and known not to be revoked.

Chains that were walked are kept for a while, by the exact text of the header that holds them, and only after the
signature over that header was found good: a stranger can neither fill the cache nor empty it, and cannot make us ask
about certificates either.

- `token`: segments, header, signature, dates
- `chain`: certificates, and the cache of chains
- `anchors`: the roots that are trusted
- `verifier`: all of it together
"""

from shared.jws.anchors import TrustAnchors
from shared.jws.chain import CERTIFICATE_ERRORS, CertificateChain
from shared.jws.errors import JwsError, JwsMalformed, JwsUnconfirmed, JwsUntrusted, TrustAnchorInvalid
from shared.jws.token import TOKEN_LENGTH_MAX
from shared.jws.verifier import (
    CHAIN_TTL_S,
    EXPIRED_CHAIN_WINDOW_S,
    FUTURE_SKEW_S_MAX,
    JwsVerifier,
    Revocation,
    SignedPayload,
    peek_claims,
)

__all__ = [
    "CERTIFICATE_ERRORS",
    "CHAIN_TTL_S",
    "EXPIRED_CHAIN_WINDOW_S",
    "FUTURE_SKEW_S_MAX",
    "TOKEN_LENGTH_MAX",
    "CertificateChain",
    "JwsError",
    "JwsMalformed",
    "JwsUnconfirmed",
    "JwsUntrusted",
    "JwsVerifier",
    "Revocation",
    "SignedPayload",
    "TrustAnchorInvalid",
    "TrustAnchors",
    "peek_claims",
]
