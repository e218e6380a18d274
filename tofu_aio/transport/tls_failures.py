"""Error messages for failures of TLS: what went wrong, and what to do about it."""

from __future__ import annotations

import ssl
from typing import Final

_EXPLANATIONS: Final = {
    "WRONG_VERSION_NUMBER": "the peer does not use TLS",
    "UNKNOWN_PROTOCOL": "the peer does not use TLS",
    "HTTP_REQUEST": "the peer uses HTTP without TLS",
    "NO_SHARED_CIPHER": "no cipher in common: load a certificate into the listener's context "
    "(load_cert_chain)",
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": "the client sent no certificate, but this listener's "
    "context requires one",
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": "the listener requires a certificate: load one into the "
    "context (load_cert_chain)",
    "TLSV1_ALERT_UNKNOWN_CA": "the peer does not trust the authority that signed this side's "
    "certificate",
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": "the peer reports that this side's certificate has expired",
    "SSLV3_ALERT_BAD_CERTIFICATE": "the peer refused this side's certificate",
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": "the peer refused this side's certificate",
    "SSLV3_ALERT_HANDSHAKE_FAILURE": "the peer refused the handshake: no cipher in common, or one "
    "side has no certificate",
}
_EXPLANATIONS["UNEXPECTED_MESSAGE"] = _EXPLANATIONS["UNKNOWN_PROTOCOL"]

_UNKNOWN_AUTHORITY: Final = {18, 19, 20, 21}
"""OpenSSL's codes for a certificate that no trusted authority has signed (x509_vfy.h)."""


def explain(error: ssl.SSLError) -> str:
    """Explain why TLS has failed, with advice where there is some."""
    if isinstance(error, ssl.SSLCertVerificationError):
        text = f"the peer's certificate is not valid: {error.verify_message}"
        advice = ": load its authority into the context, with load_verify_locations"
        return text + (advice if error.verify_code in _UNKNOWN_AUTHORITY else "")
    reason = error.reason or str(error)
    return _EXPLANATIONS.get(reason) or reason.lower().replace("_", " ")
