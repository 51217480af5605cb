import base64
import json
import time
from datetime import UTC, datetime

import pytest
from standardwebhooks import Webhook

from notifications.webhooks.signing import (
    SecretError,
    VerificationError,
    decode_secret,
    generate_secret,
    sign,
    signed_content,
    verify,
)

# The test vector of the specification's own libraries.
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
ID = "msg_p5jXN8AQM9LWM0D4loKWxJek"
TIMESTAMP = 1614265330
BODY = b'{"test": 2432232314}'
SIGNATURE = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def headers(**changes: str | None) -> dict[str, str]:
    values = {"id": ID, "timestamp": str(TIMESTAMP), "signature": SIGNATURE} | changes
    return {f"webhook-{name}": value for name, value in values.items() if value is not None}


def test_the_specifications_vector_is_signed_as_it_says():
    assert sign([SECRET], ID, TIMESTAMP, BODY) == SIGNATURE
    assert signed_content(ID, TIMESTAMP, BODY) == b'msg_p5jXN8AQM9LWM0D4loKWxJek.1614265330.{"test": 2432232314}'


def test_the_specifications_vector_verifies():
    verify([SECRET], headers(), BODY, now=TIMESTAMP)


def test_the_reference_library_accepts_our_signature_under_either_secret_of_a_rotation():
    new, old = generate_secret(), generate_secret()
    now = int(time.time())
    body = json.dumps({"message": "Grüße, 日本"}).encode()
    sent = headers(timestamp=str(now), signature=sign([new, old], ID, now, body))
    for secret in (new, old):
        assert Webhook(secret).verify(body, sent) == {"message": "Grüße, 日本"}


def test_we_accept_the_reference_librarys_signature():
    secret = generate_secret()
    signature = Webhook(secret).sign(ID, datetime.fromtimestamp(TIMESTAMP, UTC), BODY.decode())
    verify([secret], headers(signature=signature), BODY, now=TIMESTAMP)


def test_a_rotation_signs_with_every_secret_in_order():
    first, second = generate_secret(), generate_secret()
    assert sign([first, second], ID, TIMESTAMP, BODY).split(" ") == [
        sign([first], ID, TIMESTAMP, BODY),
        sign([second], ID, TIMESTAMP, BODY),
    ]


def test_a_body_that_is_no_text_is_signed_as_its_bytes():
    secret = generate_secret()
    body = b"\xff\x00\xfe"
    verify([secret], headers(signature=sign([secret], ID, TIMESTAMP, body)), body, now=TIMESTAMP)


def test_generated_secrets_have_32_bytes_and_differ():
    secrets = {generate_secret() for _ in range(20)}
    assert len(secrets) == 20
    assert all(secret.startswith("whsec_") and len(decode_secret(secret)) == 32 for secret in secrets)


def test_a_secret_is_decoded_with_or_without_prefix_and_padding():
    key = bytes(range(25))
    encoded = base64.b64encode(key).decode()
    assert encoded.endswith("==")
    for spelling in (f"whsec_{encoded}", encoded, f"whsec_{encoded.rstrip('=')}", f" whsec_{encoded}\n"):
        assert decode_secret(spelling) == key


@pytest.mark.parametrize(
    "secret",
    [
        "",
        "whsec_",
        "whsec_not base64 at all, not at all",
        "whsec_ünïcödéünïcödéünïcödéünïcödé",
        "whsec_" + base64.b64encode(bytes(23)).decode(),
        "whsec_" + base64.b64encode(bytes(65)).decode(),
        "whsk_" + base64.b64encode(bytes(32)).decode(),
    ],
)
def test_what_is_no_secret_is_refused_without_repeating_it(secret):
    with pytest.raises(SecretError) as caught:
        decode_secret(secret)
    assert len(secret) < 7 or secret not in str(caught.value)


@pytest.mark.parametrize(
    ("code", "changes"),
    [
        ("missing_header", {"id": None}),
        ("missing_header", {"timestamp": None}),
        ("missing_header", {"signature": None}),
        ("missing_header", {"signature": " "}),
        ("malformed_timestamp", {"timestamp": "soon"}),
        ("malformed_timestamp", {"timestamp": "1614265330.5"}),
        ("malformed_timestamp", {"timestamp": "-1"}),
        ("malformed_timestamp", {"timestamp": "１６１４２６５３３０"}),
        ("malformed_timestamp", {"timestamp": "9" * 5000}),
        ("too_old", {"timestamp": str(TIMESTAMP - 301)}),
        ("too_new", {"timestamp": str(TIMESTAMP + 301)}),
        ("malformed_signature", {"signature": "v1"}),
        ("malformed_signature", {"signature": "v1,"}),
        ("malformed_signature", {"signature": f"{SIGNATURE} nonsense"}),
        ("no_match", {"signature": SIGNATURE.replace("g0hM", "g0hN")}),
        ("no_match", {"signature": SIGNATURE.lower()}),
        ("no_match", {"signature": SIGNATURE.replace("v1,", "v1a,")}),
        ("no_match", {"signature": "v1,günstig"}),
        ("no_match", {"signature": "v1,\udcff"}),
        ("no_match", {"id": "msg_another"}),
        ("no_match", {"timestamp": str(TIMESTAMP + 1)}),
    ],
)
def test_what_is_wrong_with_a_message_is_said(code, changes):
    with pytest.raises(VerificationError) as caught:
        verify([SECRET], headers(**changes), BODY, now=TIMESTAMP)
    assert caught.value.code == code
    assert caught.value.message.endswith(".")
    assert SECRET.removeprefix("whsec_") not in caught.value.message


def test_another_body_or_another_secret_does_not_match():
    for secret, body in ((SECRET, BODY + b" "), (generate_secret(), BODY)):
        with pytest.raises(VerificationError) as caught:
            verify([secret], headers(), body, now=TIMESTAMP)
        assert caught.value.code == "no_match"


def test_the_tolerance_includes_its_ends():
    for now in (TIMESTAMP - 10, TIMESTAMP + 10):
        verify([SECRET], headers(), BODY, now=now, tolerance=10)
    for now in (TIMESTAMP - 10.5, TIMESTAMP + 10.5):
        with pytest.raises(VerificationError):
            verify([SECRET], headers(), BODY, now=now, tolerance=10)


def test_one_fitting_signature_among_others_is_enough_and_unknown_versions_are_passed_over():
    signature = f"v1a,whatever v1,AAAA {SIGNATURE} v2,more"
    verify([generate_secret(), SECRET], headers(signature=signature), BODY, now=TIMESTAMP)


def test_header_names_have_no_case():
    shouted = {name.upper(): value for name, value in headers().items()}
    verify([SECRET], shouted, BODY, now=TIMESTAMP)
