"""A Kafka whose clients have to say who they are, and the identity provider that vouches for some of them.

One node has a listener for each way in: `TLS`, `MUTUAL` (TLS with a client's certificate), `SASL` (over TLS: PLAIN,
SCRAM and OAUTHBEARER). Passwords and secrets all contain `SECRET`, so that a test can look for it where it must not be.
"""

import base64
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import jwt
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AdminClient,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm

from tests.support.broker import Kafka, running
from tests.support.certificates import Certificates, make_certificates

__all__ = ["PASSWORD", "SECRET", "USER", "WAYS", "SecureKafka", "secure_kafka"]

SECRET = "hunter2"
USER, PASSWORD = "fanout", f"{SECRET}-of-fanout"
AUDIENCE = "kafka"
LISTENERS = {"TLS": "SSL", "MUTUAL": "SSL", "SASL": "SASL_SSL"}
WAYS = ("TLS", "MUTUAL", "PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER")


@dataclass(frozen=True)
class SecureKafka:
    """Made by `secure_kafka`. `kafka.client` comes in without saying who it is, and may do everything."""

    kafka: Kafka
    certificates: Certificates
    issuer: str

    def client(self, way: str, password: str = PASSWORD) -> dict[str, str]:
        """Settings of a librdkafka client that comes in by one of `WAYS`."""
        listener = way if way in LISTENERS else "SASL"
        settings = {
            "bootstrap.servers": self.kafka.listeners[listener],
            "security.protocol": LISTENERS[listener],
            "ssl.ca.location": str(self.certificates.authority),
        }
        if way == "MUTUAL":
            return settings | {
                "ssl.certificate.location": str(self.certificates.certificate),
                "ssl.key.location": str(self.certificates.key),
            }
        if way == "OAUTHBEARER":
            return settings | {
                "sasl.mechanism": way,
                "sasl.oauthbearer.method": "oidc",
                "sasl.oauthbearer.client.id": USER,
                "sasl.oauthbearer.client.secret": password,
                "sasl.oauthbearer.token.endpoint.url": f"{self.issuer}/token",
            }
        if way == "TLS":
            return settings
        return settings | {"sasl.mechanism": way, "sasl.username": USER, "sasl.password": password}

    def set_password(self, password: str) -> None:
        """What the user has to know by SCRAM, from now on."""
        admin = AdminClient(self.kafka.client)
        for mechanism in (ScramMechanism.SCRAM_SHA_256, ScramMechanism.SCRAM_SHA_512):
            change = UserScramCredentialUpsertion(USER, ScramCredentialInfo(mechanism, 4096), password.encode())
            admin.alter_user_scram_credentials([change])[USER].result(15)


@contextmanager
def secure_kafka(directory: Path) -> Iterator[SecureKafka]:
    """Runs the node, and the identity provider, with their files in the directory."""
    certificates = make_certificates(directory)
    both = directory / "server-and-key.pem"
    both.write_bytes(certificates.key.read_bytes() + certificates.certificate.read_bytes())
    with _identity_provider() as issuer:
        modules = "org.apache.kafka.common.security"
        bearer = "listener.name.sasl.oauthbearer"
        settings = {
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": str(both),
            "ssl.truststore.type": "PEM",
            "ssl.truststore.location": str(certificates.authority),
            "listener.name.mutual.ssl.client.auth": "required",
            "listener.name.sasl.sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512,OAUTHBEARER",
            "listener.name.sasl.plain.sasl.jaas.config": (
                f'{modules}.plain.PlainLoginModule required user_{USER}="{PASSWORD}";'
            ),
            "listener.name.sasl.scram-sha-256.sasl.jaas.config": f"{modules}.scram.ScramLoginModule required;",
            "listener.name.sasl.scram-sha-512.sasl.jaas.config": f"{modules}.scram.ScramLoginModule required;",
            f"{bearer}.sasl.jaas.config": f"{modules}.oauthbearer.OAuthBearerLoginModule required;",
            f"{bearer}.sasl.server.callback.handler.class": (
                f"{modules}.oauthbearer.OAuthBearerValidatorCallbackHandler"
            ),
            f"{bearer}.sasl.oauthbearer.jwks.endpoint.url": f"{issuer}/keys",
            f"{bearer}.sasl.oauthbearer.expected.audience": AUDIENCE,
            f"{bearer}.sasl.oauthbearer.expected.issuer": issuer,
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "allow.everyone.if.no.acl.found": "true",
            "super.users": "User:ANONYMOUS",  # who comes in by the other listeners: nodes, and tests
        }
        allowed = f"-Dorg.apache.kafka.sasl.oauthbearer.allowed.urls={issuer}/keys"
        with running(1, settings, LISTENERS, [allowed]) as kafka:
            secure = SecureKafka(kafka, certificates, issuer)
            secure.set_password(PASSWORD)
            yield secure


@contextmanager
def _identity_provider() -> Iterator[str]:
    """Gives tokens to the one client that knows its secret (RFC 6749, 4.4), and shows the key that proves them."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    public = {**RSAAlgorithm.to_jwk(key.public_key(), as_dict=True), "kid": "1", "alg": "RS256", "use": "sig"}

    class Provider(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer(200, {"keys": [public]})

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            expected = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
            if self.headers["authorization"] != f"Basic {expected}":
                self._answer(401, {"error": "invalid_client"})
                return
            now = int(time.time())
            claims = {"iss": issuer, "sub": USER, "aud": AUDIENCE, "iat": now, "exp": now + 60}
            token = jwt.encode(claims, key, "RS256", {"kid": "1"})
            self._answer(200, {"access_token": token, "token_type": "Bearer", "expires_in": 60})

        def _answer(self, status: int, body: dict[str, Any]) -> None:
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.end_headers()
            with suppress(BrokenPipeError):  # who asked is gone
                self.wfile.write(json.dumps(body).encode())

        def log_message(self, *_: object) -> None:
            """Says nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Provider) as server:
        issuer = f"http://127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield issuer
        server.shutdown()
