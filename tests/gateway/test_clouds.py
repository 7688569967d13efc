"""Signing in to AWS, Google and Azure, against their own code or a server of ours."""

from __future__ import annotations

import asyncio
import hashlib
import json
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qs

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from hypothesis import given, settings
from hypothesis import strategies as st

from interlock.core.errors import Misconfigured, Unavailable
from interlock.gateway.clouds.aws import AwsCredentials
from interlock.gateway.clouds.entra import EntraTokens
from interlock.gateway.clouds.eventstream import EventStreamError, FrameReader, encode_frame
from interlock.gateway.clouds.google import GoogleTokens
from interlock.gateway.clouds.sigv4 import AwsKeys, sign
from interlock.testing.upstream import Reply, fake_upstream

AT = datetime(2015, 8, 30, 12, 36, tzinfo=UTC)
# The example of AWS's own documentation and test suite, not a credential of anybody's.
EXAMPLE = AwsKeys("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")


def signature(method, url, **headers):
    added = sign(method, url, headers=headers, body=b"", keys=EXAMPLE, region="us-east-1", service="service", at=AT)
    return added["authorization"].rpartition("=")[2]


def test_the_published_vectors_are_signed_alike():
    assert signature("GET", "https://example.amazonaws.com/") == (
        "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"
    )
    assert signature("GET", "https://example.amazonaws.com/?Param2=value2&Param1=value1") == (
        "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500"
    )
    assert signature("POST", "https://example.amazonaws.com/") == (
        "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"
    )


def test_a_secret_is_in_no_repr():
    assert EXAMPLE.secret_key not in repr(EXAMPLE)


@pytest.mark.parametrize(
    "path", ["/", "/model/a.b-v1%3A0/converse-stream", "/model/arn%3Aaws%3Ab%2Fx/invoke", "/x?b=2&a=%20y&a=1"]
)
@pytest.mark.parametrize("token", [None, "session-token"])
def test_awss_own_signer_agrees(path, token):
    auth = pytest.importorskip("botocore.auth")
    from botocore.awsrequest import AWSRequest
    from botocore.credentials import Credentials

    url, body = f"https://bedrock-runtime.eu-central-1.amazonaws.com{path}", b'{"a": 1}'
    keys = AwsKeys(EXAMPLE.access_key, EXAMPLE.secret_key, token)
    request = AWSRequest("POST", url, data=body, headers={"content-type": "application/json"})
    signer = auth.SigV4Auth(Credentials(keys.access_key, keys.secret_key, token), "bedrock", "eu-central-1")
    signer.add_auth(request)
    at = datetime.strptime(request.headers["X-Amz-Date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    ours = sign(
        "POST",
        url,
        headers={"content-type": "application/json"},
        body=body,
        keys=keys,
        region="eu-central-1",
        service="bedrock",
        at=at,
    )
    assert ours["authorization"] == request.headers["Authorization"]


names = st.text(st.characters(codec="ascii", categories=["L"]), min_size=1, max_size=12)
frames = st.lists(
    st.tuples(st.dictionaries(names, st.text(max_size=30), max_size=4), st.binary(max_size=200)), max_size=4
)


@settings(deadline=None)
@given(frames, st.integers(1, 40))
def test_frames_come_back_however_they_are_cut(sent, size):
    whole = b"".join(encode_frame(headers, payload) for headers, payload in sent)
    reader = FrameReader(10_000)
    got = [frame for at in range(0, len(whole), size) for frame in reader.feed(whole[at : at + size])]
    assert [(frame.headers, frame.payload) for frame in got] == sent
    assert not reader.inside


@settings(deadline=None)
@given(frames.filter(bool), st.data())
def test_a_flipped_bit_is_noticed(sent, data):
    whole = bytearray(b"".join(encode_frame(headers, payload) for headers, payload in sent))
    at = data.draw(st.integers(0, len(whole) - 1))
    whole[at] ^= 1 << data.draw(st.integers(0, 7))
    reader = FrameReader(1 << 31)
    with pytest.raises((EventStreamError, OverflowError)):
        list(reader.feed(bytes(whole)))


def test_awss_own_decoder_reads_our_frames():
    buffer = pytest.importorskip("botocore.eventstream").EventStreamBuffer()
    buffer.add_data(encode_frame({":event-type": "messageStop", "x": "é"}, b'{"a": 1}'))
    (event,) = list(buffer)
    assert event.headers == {":event-type": "messageStop", "x": "é"}
    assert event.payload == b'{"a": 1}'


def reply(body, status=200):
    return Reply([body if isinstance(body, bytes) else json.dumps(body).encode()], status)


def aws(environ, **more):
    return AwsCredentials(
        {"AWS_EC2_METADATA_DISABLED": "true", "HOME": "/nowhere", **environ}, param="p", region="r", **more
    )


async def test_aws_credentials_are_found_in_their_order(tmp_path):
    file = tmp_path / "credentials"
    file.write_text(
        "[default]\naws_access_key_id=A\naws_secret_access_key=B\n[other]\naws_access_key_id=C\naws_secret_access_key=D%\n"
    )
    there = {"AWS_SHARED_CREDENTIALS_FILE": str(file)}
    env = {"AWS_ACCESS_KEY_ID": "E", "AWS_SECRET_ACCESS_KEY": "F", "AWS_SESSION_TOKEN": "G"}
    assert await aws({**there, **env}).keys() == AwsKeys("E", "F", "G")
    assert await aws(there).keys() == AwsKeys("A", "B")
    assert await aws({**there, **env}, profile="other").keys() == AwsKeys("C", "D%")
    with pytest.raises(Misconfigured):
        await aws({}).keys()
    with pytest.raises(Misconfigured):
        await aws(there, profile="missing").keys()


async def test_instance_credentials_are_read_anew_before_they_expire():
    def found(key, minutes):
        until = (datetime.now(UTC) + timedelta(minutes=minutes)).strftime("%Y-%m-%dT%H:%M:%SZ")
        return {"AccessKeyId": key, "SecretAccessKey": "s", "Token": "t", "Expiration": until}

    async with fake_upstream() as upstream:
        base = upstream.url.removesuffix("/v1")
        credentials = aws({"AWS_EC2_METADATA_DISABLED": "", "AWS_EC2_METADATA_SERVICE_ENDPOINT": base})
        upstream.will(
            reply(b"tok"),
            reply(b"role"),
            reply(found("one", 3)),
            reply(b"tok"),
            reply(b"role"),
            reply(found("two", 60)),
        )
        assert (await credentials.keys()).access_key == "one"
        assert (await credentials.keys()).access_key == "two"
        assert (await credentials.keys()).access_key == "two"
        assert [request.method for request in upstream.requests] == ["PUT", "GET", "GET"] * 2
        assert upstream.requests[1].headers["x-aws-ec2-metadata-token"] == "tok"


async def test_container_credentials_need_a_near_address():
    found = {"AccessKeyId": "k", "SecretAccessKey": "s", "Token": "t", "Expiration": "2099-01-01T00:00:00Z"}
    async with fake_upstream() as upstream:
        upstream.will(reply(found))
        env = {"AWS_CONTAINER_CREDENTIALS_FULL_URI": upstream.url, "AWS_CONTAINER_AUTHORIZATION_TOKEN": "auth"}
        assert (await aws(env).keys()).access_key == "k"
        assert upstream.requests[0].headers["authorization"] == "auth"
    with pytest.raises(Misconfigured):
        await aws({"AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://example.org/x"}).keys()


async def test_a_web_identity_is_exchanged(tmp_path):
    (tmp_path / "token").write_text("jwt")
    credentials = {"AccessKeyId": "k", "SecretAccessKey": "s", "SessionToken": "t", "Expiration": 4e9}
    inner = {"AssumeRoleWithWebIdentityResult": {"Credentials": credentials}}
    async with fake_upstream() as upstream:
        upstream.will(reply({"AssumeRoleWithWebIdentityResponse": inner}))
        env = {
            "AWS_WEB_IDENTITY_TOKEN_FILE": str(tmp_path / "token"),
            "AWS_ROLE_ARN": "arn:r",
            "AWS_ENDPOINT_URL_STS": upstream.url,
        }
        assert (await aws(env).keys()).session_token == "t"
        assert parse_qs(upstream.requests[0].raw.decode())["RoleArn"] == ["arn:r"]


def in_minutes(minutes):
    return (datetime.now(UTC) + timedelta(minutes=minutes)).timestamp()


def sts(action, key, minutes=60):
    found = {"AccessKeyId": key, "SecretAccessKey": "s", "SessionToken": "t", "Expiration": in_minutes(minutes)}
    return reply({f"{action}Response": {f"{action}Result": {"Credentials": found}}})


@pytest.fixture
def home(tmp_path):
    """Writes a home folder's AWS files; gives the environment that names it."""

    def write(config="", credentials="", **files):
        folder = tmp_path / ".aws"
        (folder / "sso" / "cache").mkdir(parents=True, exist_ok=True)
        (folder / "config").write_text(config)
        (folder / "credentials").write_text(credentials)
        for name, text in files.items():
            (folder / name).write_text(text)
        return {"HOME": str(tmp_path)}

    return write


KEYS = "[base]\naws_access_key_id=AKBASE\naws_secret_access_key=secret\n"
ROLES = """
[profile work]
role_arn = arn:aws:iam::1:role/work
source_profile = base
external_id = ours
duration_seconds = 1800
role_session_name = gateway
[profile further]
role_arn = arn:aws:iam::2:role/further
source_profile = work
[profile self]
role_arn = arn:aws:iam::3:role/self
source_profile = self
aws_access_key_id = AKSELF
aws_secret_access_key = x
[profile circle]
role_arn = r
source_profile = circle2
[profile circle2]
role_arn = r
source_profile = circle
[profile typed]
role_arn = r
source_profile = base
mfa_serial = arn:aws:iam::1:mfa/me
[profile program]
credential_process = /bin/echo
[profile nothing]
region = eu-west-1
[profile env]
role_arn = arn:e
credential_source = Environment
[profile web]
role_arn = arn:w
web_identity_token_file = ~/.aws/token
"""


async def test_a_role_is_taken_with_the_keys_of_another_profile(home):
    from botocore.auth import SigV4Auth
    from botocore.awsrequest import AWSRequest
    from botocore.credentials import Credentials

    env = home(ROLES, KEYS)
    async with fake_upstream() as upstream:
        env["AWS_ENDPOINT_URL_STS"] = upstream.url
        upstream.will(sts("AssumeRole", "ROLE"))
        assert (await aws(env, profile="work").keys()).access_key == "ROLE"
        (request,) = upstream.requests
        form = {name: value for name, (value,) in parse_qs(request.raw.decode()).items()}
        assert form == {
            "Action": "AssumeRole",
            "Version": "2011-06-15",
            "RoleArn": "arn:aws:iam::1:role/work",
            "RoleSessionName": "gateway",
            "ExternalId": "ours",
            "DurationSeconds": "1800",
        }
        # AWS's own signer comes to the same signature.
        kind = {"content-type": request.headers["content-type"]}
        theirs = AWSRequest("POST", upstream.url, data=request.raw, headers=kind)
        theirs.context["timestamp"] = request.headers["x-amz-date"]
        theirs.headers["X-Amz-Date"] = request.headers["x-amz-date"]
        signer = SigV4Auth(Credentials("AKBASE", "secret"), "sts", "r")
        signed = signer.signature(signer.string_to_sign(theirs, signer.canonical_request(theirs)), theirs)
        assert request.headers["authorization"].endswith(f"Signature={signed}")


async def test_roles_are_taken_one_after_the_other_and_read_anew_before_they_expire(home):
    env = home(ROLES, KEYS)
    async with fake_upstream() as upstream:
        env["AWS_ENDPOINT_URL_STS"] = upstream.url
        given = (("A", 60), ("B", 3), ("C", 60), ("D", 60))
        upstream.will(*(sts("AssumeRole", name, minutes) for name, minutes in given))
        credentials = aws(env, profile="further")
        assert [(await credentials.keys()).access_key for _ in range(3)] == ["B", "D", "D"]
        roles = [parse_qs(request.raw.decode())["RoleArn"][0] for request in upstream.requests]
        assert roles == ["arn:aws:iam::1:role/work", "arn:aws:iam::2:role/further"] * 2
        assert upstream.requests[1].headers["x-amz-security-token"] == "t"
        assert "Credential=A/" in upstream.requests[1].headers["authorization"]


async def test_what_still_holds_is_used_while_it_cannot_be_renewed_and_a_failure_is_shared(home):
    env = home(ROLES, KEYS)
    async with fake_upstream() as upstream:
        env["AWS_ENDPOINT_URL_STS"] = upstream.url
        upstream.will(sts("AssumeRole", "A", 3), reply({}, 503))
        credentials = aws(env, profile="work")
        assert (await credentials.keys()).access_key == "A"
        assert (await credentials.keys()).access_key == "A"
        upstream.requests.clear()
        fresh = aws(env, profile="work")
        failed = await asyncio.gather(*(fresh.keys() for _ in range(20)), return_exceptions=True)
        assert {type(error) for error in failed} == {Unavailable}
        assert len(upstream.requests) == 1


@pytest.mark.parametrize(
    ("profile", "action", "signer"),
    [
        ("self", "AssumeRole", "AKSELF"),
        ("env", "AssumeRole", "AKENV"),
        ("web", "AssumeRoleWithWebIdentity", None),
    ],
)
async def test_other_sources_of_a_role(home, profile, action, signer):
    env = home(ROLES, KEYS, token="jwt\n")
    env |= {"AWS_ACCESS_KEY_ID": "AKENV", "AWS_SECRET_ACCESS_KEY": "y"}
    async with fake_upstream() as upstream:
        env["AWS_ENDPOINT_URL_STS"] = upstream.url
        upstream.will(sts(action, "K"))
        assert (await aws(env, profile=profile).keys()).access_key == "K"
        (request,) = upstream.requests
        if signer is None:
            assert "authorization" not in request.headers
            assert parse_qs(request.raw.decode())["WebIdentityToken"] == ["jwt"]
        else:
            assert f"Credential={signer}/" in request.headers["authorization"]


@pytest.mark.parametrize(
    ("profile", "says"),
    [
        ("circle", "circle"),
        ("typed", "one-time code"),
        ("program", "starts a program"),
        ("nothing", "no AWS credentials"),
        ("missing", "no AWS credentials"),
        ("env", "environment holds no AWS keys"),
        ("web", "web identity token"),
    ],
)
async def test_what_cannot_be_used_is_named(home, profile, says):
    with pytest.raises(Misconfigured, match=says):
        await aws(home(ROLES, KEYS), profile=profile).keys()


SSO = """
[profile new]
sso_session = ours
sso_account_id = 123
sso_role_name = Dev
[profile old]
sso_start_url = https://example.org/start
sso_region = eu-west-1
sso_account_id = 123
sso_role_name = Dev
[sso-session ours]
sso_start_url = https://example.org/start
sso_region = eu-west-1
"""


@pytest.mark.parametrize(("profile", "cached_as"), [("new", "ours"), ("old", "https://example.org/start")])
async def test_a_cached_sign_in_is_exchanged(home, tmp_path, profile, cached_as):
    env = home(SSO)
    name = hashlib.sha1(cached_as.encode(), usedforsecurity=False).hexdigest()
    cached = tmp_path / ".aws" / "sso" / "cache" / f"{name}.json"
    with pytest.raises(Misconfigured, match="nobody has signed in"):
        await aws(env, profile=profile).keys()
    cached.write_text(json.dumps({"accessToken": "old", "expiresAt": "2020-01-01T00:00:00Z"}))
    with pytest.raises(Misconfigured, match="expired") as caught:
        await aws(env, profile=profile).keys()
    assert caught.value.hint == f"run: aws sso login --profile {profile}"
    cached.write_text(json.dumps({"accessToken": "token", "expiresAt": "2099-01-01T00:00:00Z"}))
    found = {"accessKeyId": "K", "secretAccessKey": "s", "sessionToken": "t", "expiration": in_minutes(60) * 1000}
    async with fake_upstream() as upstream:
        upstream.will(reply({"roleCredentials": found}))
        keys = await aws({**env, "AWS_ENDPOINT_URL_SSO": upstream.url}, profile=profile).keys()
        assert (keys.access_key, keys.session_token) == ("K", "t")
        assert keys.expires_at > datetime.now(UTC) + timedelta(minutes=50)
        (request,) = upstream.requests
        assert request.headers["x-amz-sso_bearer_token"] == "token"
        assert request.path.endswith("/federation/credentials?role_name=Dev&account_id=123")


@pytest.fixture(scope="module")
def service_account():
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
    account = {"type": "service_account", "client_email": "bot@p", "private_key": pem, "private_key_id": "k1"}
    return account, key.public_key()


async def test_a_service_account_signs_and_its_token_is_kept(service_account):
    account, public = service_account
    async with fake_upstream() as upstream:
        upstream.will(reply({"access_token": "ya29", "expires_in": 3600}))
        tokens = GoogleTokens({}, document=json.dumps({**account, "token_uri": upstream.url}), param="p")
        assert [await tokens.token(), await tokens.token()] == ["ya29", "ya29"]
        (request,) = upstream.requests
        form = parse_qs(request.raw.decode())
        claims = jwt.decode(form["assertion"][0], public, algorithms=["RS256"], audience=upstream.url)
        assert claims["iss"] == "bot@p"
        assert claims["exp"] - claims["iat"] == 3600
        assert form["grant_type"] == ["urn:ietf:params:oauth:grant-type:jwt-bearer"]
        assert tokens.forget()
        await tokens.token()
        assert len(upstream.requests) == 2


async def test_a_token_about_to_expire_is_fetched_anew():
    user = {"type": "authorized_user", "client_id": "c", "client_secret": "s", "refresh_token": "r"}
    async with fake_upstream() as upstream:
        upstream.will(reply({"access_token": "a", "expires_in": 200}))
        tokens = GoogleTokens({}, document=json.dumps({**user, "token_uri": upstream.url}), param="p")
        await tokens.token()
        await tokens.token()
        assert len(upstream.requests) == 2


async def test_the_metadata_server_gives_a_machines_token(tmp_path):
    async with fake_upstream() as upstream:
        upstream.will(reply({"access_token": "m", "expires_in": 3600}))
        host = upstream.url.removeprefix("http://").removesuffix("/v1")
        tokens = GoogleTokens({"GCE_METADATA_HOST": host, "HOME": str(tmp_path)}, param="p")
        assert await tokens.token() == "m"
        assert upstream.requests[0].headers["metadata-flavor"] == "Google"


async def test_broken_google_credentials_are_not_repeated(service_account):
    secret = "-----BEGIN PRIVATE KEY----- Ottoline"
    for document in (
        secret,
        json.dumps([secret]),
        json.dumps({"type": "service_account", "client_email": "x", "private_key": secret}),
        json.dumps({"type": "authorized_user", "refresh_token": secret}),
        json.dumps({"type": "new kind", "x": secret}),
    ):
        with pytest.raises(Misconfigured) as caught:
            await GoogleTokens({}, document=document, param="p").token()
        assert "Ottoline" not in f"{caught.value!r} {caught.value.__cause__!r}"
        assert caught.value.__context__ is None or caught.value.__suppress_context__


async def test_an_entra_client_signs_in():
    async def secret():
        return "hush"

    async with fake_upstream() as upstream:
        upstream.will(reply({"access_token": "e", "expires_in": 3600}))
        base = upstream.url.removesuffix("/v1")
        tokens = EntraTokens(
            {"AZURE_AUTHORITY_HOST": base}, scope="s/.default", tenant="t", client="c", secret=secret, param="p"
        )
        assert [await tokens.token(), await tokens.token()] == ["e", "e"]
        (request,) = upstream.requests
        assert request.path == "/t/oauth2/v2.0/token"
        assert parse_qs(request.raw.decode())["client_secret"] == ["hush"]
        upstream.will(reply({"error": "invalid_client", "error_description": "hush"}, 401))
        tokens.forget()
        with pytest.raises(Misconfigured) as caught:
            await tokens.token()
        assert "hush" not in str(caught.value)
