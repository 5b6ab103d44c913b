"""The configurations of the guides are configurations: nginx takes them, the servers know their options.

What the commands do is shown elsewhere: `test_code_blocks.py` runs those of uvicorn and Daphne,
`tests/servers/test_live_service.py` the live service behind its nginx.
"""

from __future__ import annotations

import configparser
import json
import re
import subprocess
from pathlib import Path

import pytest
import uvicorn
import yaml
from gunicorn.config import Config

from django_live.transports.health import ALIVE_ANSWER, QUESTIONS
from tests.docs.markdown import ROOT, Block, blocks, code, pages, table
from tests.servers.test_health import WELL
from tests.support.nginx import check
from tests.support.requirements import nginx_program, requires
from tests.support.servers import free_port
from tests.support.tls import write_certificate

BLOCKS = [block for page in pages() for block in blocks(page)]
DEPLOY = ROOT / "docs/howto/deploy.md"


def in_language(language: str) -> list[Block]:
    return [block for block in BLOCKS if block.language == language]


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A key and what it signed for itself, in one file."""
    return write_certificate(tmp_path_factory.mktemp("tls") / "both.pem")


def runnable(text: str, certificate: Path) -> str:
    """The printed text, on a port that anybody may open, with a certificate that exists."""
    text = re.sub(r"listen \d+", f"listen 127.0.0.1:{free_port()}", text)
    text = re.sub(r"(ssl_certificate(?:_key)?\s+)\S+;", rf"\1{certificate};", text)
    if "ssl_certificate" not in text:
        text = f"ssl_certificate {certificate};\nssl_certificate_key {certificate};\n{text}"
    if nginx_version() < (1, 25, 1):  # as the guide says
        text = re.sub(r"(listen \S+ ssl);\s*http2 on;", r"\1 http2;", text)
    return text


def nginx_version() -> tuple[int, ...]:
    program = nginx_program()
    assert program
    said = subprocess.run([program, "-v"], check=True, capture_output=True, text=True).stderr
    found = re.search(r"nginx/([\d.]+)", said)
    assert found
    return tuple(map(int, found[1].split(".")))


@requires("nginx")
@pytest.mark.parametrize("block", in_language("nginx"), ids=str)
def test_nginx_takes_the_configuration(block: Block, certificate: Path) -> None:
    assert check(runnable(block.text, certificate)) == ""


@requires("nginx")
def test_nginx_would_refuse_a_wrong_one(certificate: Path) -> None:
    assert "unknown directive" in check(runnable("server { proxy_bufering off; }", certificate))


@pytest.mark.parametrize("block", in_language("ini"), ids=str)
def test_systemd_units_can_be_parsed(block: Block) -> None:
    unit = configparser.ConfigParser(interpolation=None, comment_prefixes="#")
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read_string(block.text)
    assert set(unit.sections()) == {"Unit", "Service", "Install"}
    assert int(unit["Service"]["TimeoutStopSec"]) > 20
    assert "uvicorn " in unit["Service"]["ExecStart"]


@pytest.mark.parametrize("block", in_language("yaml"), ids=str)
def test_yaml_can_be_parsed(block: Block) -> None:
    parsed = yaml.safe_load(block.text)
    if "services" in parsed:
        for service in parsed["services"].values():
            assert {"image", "command"} & service.keys()
            assert set(service.get("depends_on", [])) <= parsed["services"].keys()
    elif "scrape_configs" in parsed:
        assert {job["metrics_path"] for job in parsed["scrape_configs"]} == {"/live/metrics/"}
    else:
        addresses = {probe["httpGet"]["path"] for probe in parsed.values()}
        assert addresses == {"/live/health/", "/live/health/alive/"}


def commands(program: str) -> list[str]:
    """Every call of a server in the guides, whatever surrounds it."""
    found = []
    for block in BLOCKS:
        for line in block.text.splitlines():
            call = re.search(rf"(?:^|[\s/=]){program} (-.*|mysite.*)$", line.strip())
            if call and block.language in ("sh", "ini", "yaml"):
                found.append(call[1])
    return found


def test_uvicorn_knows_its_options() -> None:
    calls = commands("uvicorn")
    assert len(calls) >= 4
    for call in calls:
        uvicorn.main.make_context("uvicorn", call.split())


def test_gunicorn_knows_its_options() -> None:
    calls = commands("gunicorn")
    assert calls
    for call in calls:
        Config().parser().parse_args(call.split())


def test_the_answer_of_the_health_address() -> None:
    (block,) = (one for one in in_language("json") if one.section == "Health")
    assert json.loads(block.text) == {**WELL, **dict.fromkeys(QUESTIONS, "ok")}
    keys = {key for row in table(DEPLOY, "Health") for key in code(row[0])}
    assert keys == json.loads(block.text).keys() - ALIVE_ANSWER.told.keys()
