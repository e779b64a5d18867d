"""What users see when AWS refuses, is not there, or nobody told the SDK who it is: one line each."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from aws import ACCOUNT, AwsServer, clean_environment
from vedette.testing import run_check
from vedette_checks.cloudwatch import CloudWatch

from .server import FakeCloudWatch

pytestmark = pytest.mark.anyio

STATIC = [{"namespace": "Shop", "metric": "Sent"}]
CALL = "eu-central-1: cloudwatch:GetMetricData"


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    clean_environment(monkeypatch, str(tmp_path))
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAVEDETTE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret-of-vedette")
    return monkeypatch


@pytest.fixture
async def cloudwatch(environment: pytest.MonkeyPatch) -> AsyncIterator[FakeCloudWatch]:
    async with FakeCloudWatch().serving() as server:
        server.now = time.time()
        yield server


def options(**more: Any) -> dict[str, Any]:
    return {"name": "prod", "region": "eu-central-1", "static": STATIC, "timeout": "20s", **more}


async def failing(**more: Any) -> str:
    """The one line of a run that fails."""
    run = await run_check(CloudWatch, options(**more))
    assert run.error is not None
    said = "; ".join(filter(None, (run.error.message, run.error.hint)))
    assert "\n" not in said
    assert run.status("aws.cloudwatch.can_connect").name == "CRITICAL"
    assert run.message("aws.cloudwatch.can_connect") == said
    return said


DENIED = (
    "User: arn:aws:iam::123456789012:user/vedette is not authorized to perform: cloudwatch:GetMetricData because no "
    "identity-based policy allows the cloudwatch:GetMetricData action"
)
DOCTOR = "allow cloudwatch:GetMetricData; `vedette doctor` prints the smallest policy"


@pytest.mark.parametrize(
    ("status", "code", "message", "line"),
    [
        (403, "AccessDenied", DENIED, f"{CALL} is refused to arn:aws:iam::123456789012:user/vedette; {DOCTOR}"),
        (
            403,
            "AccessDenied",
            DENIED.replace("because no identity-based policy allows the cloudwatch:GetMetricData action", "")
            + "with an explicit deny in a service control policy",
            f"{CALL} is refused to arn:aws:iam::123456789012:user/vedette by an explicit deny in a service control "
            f"policy; {DOCTOR}",
        ),
        (
            403,
            "InvalidClientTokenId",
            "The security token included in the request is invalid.",
            f"{CALL}: AWS does not know the access key; is it deleted or inactive, or of another partition? "
            "`aws sts get-caller-identity` asks the same",
        ),
        (
            403,
            "SignatureDoesNotMatch",
            "The request signature we calculated does not match AKIAVEDETTE secret-of-vedette",
            f"{CALL}: AWS refuses the signature; the secret access key does not belong to the access key",
        ),
        (
            403,
            "ExpiredToken",
            "The security token included in the request is expired",
            f"{CALL}: the session token has expired; renew it, such as with `aws sso login`, or use a role",
        ),
        (
            400,
            "ValidationError",
            "The parameter Period must be a multiple of 60.",
            f"{CALL}: ValidationError: The parameter Period must be a multiple of 60. (aws.shop.sent)",
        ),
    ],
)
async def test_done_means_3_what_aws_refuses_is_one_line(
    cloudwatch: FakeCloudWatch, status: int, code: str, message: str, line: str
) -> None:
    cloudwatch.refuse = lambda: (status, code, message)
    assert await failing(endpoint_url=cloudwatch.url) == line
    assert len(cloudwatch.requests) == 1, "what will not change is not tried again"


@pytest.mark.parametrize(("skew", "side"), [(900.0, "behind"), (-900.0, "ahead of")])
async def test_done_means_3_a_wrong_clock_is_measured(cloudwatch: FakeCloudWatch, skew: float, side: str) -> None:
    cloudwatch.skew = skew
    cloudwatch.refuse = lambda: (403, "SignatureDoesNotMatch", "Signature expired: 20261124T120000Z is now earlier")
    said = await failing(endpoint_url=cloudwatch.url)
    seconds = int(said.split(" is ")[1].split(" s ")[0])
    assert seconds in range(897, 904)
    assert said == (
        f"{CALL}: the clock of this machine is {seconds} s {side} that of AWS; AWS refuses signatures that are five "
        "minutes off: set the clock, by NTP or chrony"
    )


async def test_done_means_3_no_credentials(environment: pytest.MonkeyPatch) -> None:
    environment.delenv("AWS_ACCESS_KEY_ID")
    environment.delenv("AWS_SECRET_ACCESS_KEY")
    assert await failing() == (
        "no AWS credentials are found: not in the environment, a profile, a web identity, the container or the "
        "instance; set `profile`, or give the pod or the instance a role"
    )
    environment.setenv("AWS_ACCESS_KEY_ID", "AKIAVEDETTE")
    assert await failing() == "half of the credentials is missing: AWS_SECRET_ACCESS_KEY; set both of them"


async def test_done_means_3_a_profile_that_is_not_there(environment: pytest.MonkeyPatch) -> None:
    assert await failing(profile="monitoring") == (
        "there is no profile monitoring in the SDK's files; `aws configure list-profiles` lists them; AWS_CONFIG_FILE "
        "names another file"
    )


async def test_a_profile_is_used_with_its_region(
    cloudwatch: FakeCloudWatch, environment: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "config").write_text(
        "[profile monitoring]\nregion = ap-south-1\naws_access_key_id = AKIAPROFILE\naws_secret_access_key = x\n"
    )
    environment.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    wanted = options(profile="monitoring", endpoint_url=cloudwatch.url)
    del wanted["region"]
    run = await run_check(CloudWatch, wanted)
    assert run.error is None
    assert run.status("aws.cloudwatch.can_connect", region="ap-south-1").name == "OK"


async def test_done_means_3_no_region(environment: pytest.MonkeyPatch) -> None:
    run = await run_check(CloudWatch, {"name": "prod", "static": STATIC})
    assert str(run.error) == "no region is given"


async def test_done_means_3_a_wrong_region_and_nobody_there(environment: pytest.MonkeyPatch, closed_port: int) -> None:
    # nothing is sent to AWS: names under .invalid and closed ports answer at once
    url = f"http://127.0.0.1:{closed_port}"
    environment.setenv("AWS_ENDPOINT_URL", url)
    run = await run_check(CloudWatch, options(region="eu-centrl-1"))
    assert str(run.error) == "eu-centrl-1: cloudwatch:GetMetricData: there is no region eu-centrl-1"
    assert run.error is not None
    assert run.error.hint == "did you mean eu-central-1?"
    said = await failing(endpoint_url=url)
    way = "is the region right, and is there a way to it (route, proxy, DNS)?"
    assert said == f"{CALL}: no connection to {url}/; {way}"


async def test_done_means_3_a_role_that_is_refused(cloudwatch: FakeCloudWatch) -> None:
    message = (
        "User: arn:aws:iam::123456789012:user/vedette is not authorized to perform: sts:AssumeRole on resource: "
        "arn:aws:iam::123456789012:role/other"
    )
    cloudwatch.refuse = lambda: (403, "AccessDenied", message)
    said = await failing(endpoint_url=cloudwatch.url, role_arn="arn:aws:iam::123456789012:role/other")
    assert said == (
        "eu-central-1: sts:AssumeRole is refused to arn:aws:iam::123456789012:user/vedette; its own policy must allow "
        "sts:AssumeRole on the role, and the role's trust policy name it and the external_id, if it demands one"
    )


async def test_a_role_is_taken_on_again_before_it_expires(cloudwatch: FakeCloudWatch) -> None:
    role = {
        "endpoint_url": cloudwatch.url,
        "role_arn": "arn:aws:iam::123456789012:role/vedette",
        "external_id": "of-ours",
    }
    cloudwatch.lasts = 60.0  # the SDK renews what lasts less than ten minutes
    run = await run_check(CloudWatch, options(**role, discover=[{"namespace": "Shop", "metrics": ["Sent"]}]))
    assert run.error is None
    asked = [name for name, _ in cloudwatch.requests]
    assert asked.count("AssumeRole") == 3, "at the start, for ListMetrics, for GetMetricData"
    assert {each["ExternalId"] for name, each in cloudwatch.requests if name == "AssumeRole"} == {"of-ours"}
    cloudwatch.requests.clear()
    cloudwatch.lasts = 3600.0
    run = await run_check(CloudWatch, options(**role), runs=3)
    assert [name for name, _ in cloudwatch.requests].count("AssumeRole") == 1
    assert cloudwatch.keys[-1] == "ASIATAKENON"


async def test_a_pod_s_web_identity_is_used(aws: AwsServer, environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """IRSA: a token in a file, and a role in the environment."""
    (tmp_path / "token").write_text("eyJ.of.the.pod")
    environment.delenv("AWS_ACCESS_KEY_ID")
    environment.delenv("AWS_SECRET_ACCESS_KEY")
    environment.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(tmp_path / "token"))
    environment.setenv("AWS_ROLE_ARN", f"arn:aws:iam::{ACCOUNT}:role/pod")
    environment.setenv("AWS_ENDPOINT_URL", aws.url)
    run = await run_check(CloudWatch, options())
    assert run.error is None
    assert [call.action for call in aws.calls] == ["sts:AssumeRoleWithWebIdentity", "cloudwatch:GetMetricData"]
    assert aws.calls[0].parameters["WebIdentityToken"] == "eyJ.of.the.pod"


async def test_one_region_that_fails_does_not_hide_the_other(cloudwatch: FakeCloudWatch) -> None:
    wanted = options(endpoint_url=cloudwatch.url, regions=["eu-central-1", "us-east-1"])
    del wanted["region"]
    cloudwatch.refuse = lambda: (403, "AccessDenied", DENIED) if len(cloudwatch.requests) == 1 else None
    run = await run_check(CloudWatch, wanted)
    how = {status.tags[-1]: status.status.name for status in run.statuses if status.name.endswith("can_connect")}
    assert sorted(how.values()) == ["CRITICAL", "OK"]
    assert run.error is not None


async def test_something_that_is_not_aws(environment: pytest.MonkeyPatch) -> None:
    import http.server
    import threading

    class Other(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.send_header("Content-Length", "5")
            self.end_headers()
            self.wfile.write(b"hello")

        def log_message(self, *args: Any) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Other) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        said = await failing(endpoint_url=f"http://127.0.0.1:{server.server_port}")
        server.shutdown()
        thread.join()
    assert said == f"{CALL}: the answer is not that of AWS; what is at `endpoint_url`, or on the way (a proxy)?"


WITHOUT = """
import sys
from vedette.cli import main
class Finder:
    def find_spec(self, name, *rest):
        if name.split(".")[0] in {names}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Finder())
code = main({arguments})
print("MODULES", sorted(name for name in sys.modules if name.split(".")[0] in ("botocore", "aiobotocore", "boto3")))
sys.exit(code)
"""


def vedette(folder: Path, *arguments: str, without: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    code = WITHOUT.format(names=set(without) or "()", arguments=list(arguments))
    return subprocess.run(
        [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, timeout=60, check=False
    )


def test_done_means_3_a_run_without_aws_does_not_import_botocore(tmp_path: Path) -> None:
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "conf.d/host.yaml").write_text("instances:\n  - {name: here}\n")
    done = vedette(tmp_path, "check", "host")
    assert "host/here ok" in done.stdout
    assert "MODULES []" in done.stdout


async def test_what_the_sdk_would_log_stays_secret(cloudwatch: FakeCloudWatch, tmp_path: Path) -> None:
    """At level debug too: it logs headers with tokens, and answers with the keys of roles."""
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "conf.d/agent.yaml").write_text("state_directory: state\nsinks: [{type: console}]\n")
    role = f"role_arn: 'arn:aws:iam::{ACCOUNT}:role/vedette'"
    static = "static: [{namespace: Shop, metric: Sent}]"
    wanted = f"{{name: prod, interval: 1s, region: eu-central-1, endpoint_url: '{cloudwatch.url}', {role}, {static}}}"
    (tmp_path / "conf.d/cloudwatch.yaml").write_text(f"instances:\n  - {wanted}\n")
    run = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "vedette", "run", "--log-level", "debug", cwd=tmp_path, stdout=-1, stderr=-1
    )
    assert run.stdout is not None
    assert run.stderr is not None
    logging = asyncio.create_task(run.stderr.read())  # all the while: the agent would wait before a pipe that is full
    out = b""
    while b"aws.cloudwatch.points" not in out:
        line = await asyncio.wait_for(run.stdout.readline(), 30.0)
        assert line, "the agent ended"
        out += line
    run.terminate()
    rest, log = await run.stdout.read(), await logging
    await run.wait()
    assert b"DEBUG" in log
    names = dict.fromkeys(name for name, _ in cloudwatch.requests)  # a slow machine may need several runs for the first
    assert list(names)[:2] == ["AssumeRole", "GetMetricData"]
    for secret in ("secret-of-vedette", "ASIATAKENON", "Signature=", "X-Amz-Security-Token"):
        assert secret not in (out + rest + log).decode()


def test_done_means_3_a_missing_extra_says_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "conf.d/cloudwatch.yaml").write_text("instances:\n  - {name: prod, discover: [rds]}\n")
    done = vedette(tmp_path, "validate", without=("aiobotocore", "botocore"))
    assert "which is not installed: pip install 'vedette[aws]'" in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
