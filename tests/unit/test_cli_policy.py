"""``hawse policy``, ``identity`` and ``bpf`` from the command line to the agent and back."""

from __future__ import annotations

import io
import json
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent, indent
from typing import Any

import pytest
import yaml

from cli import main, policy_rollout
from model import errors
from model.errors import Fault, InvalidDocument
from model.ids import IDENTITY_WORLD, NodeName
from model.labels import Labels
from model.policy_answers import Applied, PolicyRecord, Rollout, RuleReference, Trace, TraceQuestion, TraceStep
from observe.api import create_agent_app
from tests.support.agent_state import ENDPOINT_HERE, ENDPOINT_THERE, FixedAgentState, an_endpoint
from tests.support.policy_state import DB, DB_FROM_API, DOCUMENT, HERE, THERE, WEB, a_policy, a_rollout
from tests.support.service_state import a_backend, a_label_service
from tests.support.unix_server import serve_application

GAMMA = NodeName("gamma")
FAULTS = (Fault("spec.ingress[1].toPorts[0].ports[0].port", "70000 is not a port"), Fault("", "has no metadata"))


@dataclass(frozen=True)
class Result:
    code: int
    out: str
    err: str


Run = Callable[..., Result]


@pytest.fixture
def state() -> FixedAgentState:
    return FixedAgentState()


@pytest.fixture
def run(
    state: FixedAgentState, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Run]:
    """Runs the command as its entry point does, against an agent with this state."""
    with serve_application(create_agent_app(state), tmp_path / "agent.sock") as path:
        monkeypatch.setenv("HAWSE_SOCKET", str(path))
        monkeypatch.chdir(tmp_path)

        def command(*arguments: str, stdin: bytes = b"") -> Result:
            monkeypatch.setattr(sys, "argv", ["hawse", *arguments])
            monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
            with pytest.raises(SystemExit) as ended:
                main.main()
            written = capsys.readouterr()
            assert isinstance(ended.value.code, int)
            return Result(ended.value.code, written.out, written.err)

        yield command


@pytest.fixture
def file(tmp_path: Path) -> str:
    (tmp_path / "db.yaml").write_bytes(b"kind: Policy # \xc3\xa9\n")
    return "db.yaml"


@pytest.fixture
def other(tmp_path: Path) -> str:
    (tmp_path / "web.json").write_text('{"kind":\t"Policy"}')
    return "web.json"


def test_apply_says_what_became_of_each_policy(run: Run, state: FixedAgentState, file: str) -> None:
    state.policies.applied = Applied(revision=123, created=("b", "a"), changed=("c",), unchanged=("shop/d",))

    result = run("policy", "apply", "-f", file)

    assert result == Result(
        0,
        "policy a created (revision 123)\npolicy b created (revision 123)\n"
        "policy c changed (revision 123)\npolicy shop/d unchanged (revision 123)\n",
        "",
    )
    assert state.policies.asked == [("apply", "kind: Policy # é\n")]


def test_apply_reads_standard_input(run: Run, state: FixedAgentState) -> None:
    assert run("policy", "apply", "-f", "-", stdin=b"kind: Policy").code == 0
    assert state.policies.asked == [("apply", "kind: Policy")]


def test_apply_of_several_files_checks_all_of_them_first(
    run: Run, state: FixedAgentState, file: str, other: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = iter([("db",), ("web",)])
    monkeypatch.setattr(
        state.policies, "validate", lambda text: (state.policies.asked.append(("validate", text)), next(answers))[1]
    )

    result = run("policy", "apply", "-f", file, "-f", other, "-o", "json")

    assert [question[0] for question in state.policies.asked if isinstance(question, tuple)] == [
        "validate",
        "validate",
        "apply",
        "apply",
    ]
    assert json.loads(result.out)["created"] == ["db-from-api", "db-from-api"]


def test_policy_in_two_files_is_refused(run: Run, state: FixedAgentState, file: str, other: str) -> None:
    result = run("policy", "apply", "-f", file, "-f", other)

    assert result == Result(1, "", "web.json: the policy db-from-api is also in db.yaml\nNothing was changed.\n")
    assert ("apply", "kind: Policy # é\n") not in state.policies.asked


@pytest.mark.parametrize("output", ["table", "json"])
def test_refused_document_shows_each_fault_in_its_file(
    run: Run, state: FixedAgentState, file: str, output: str
) -> None:
    state.policies.error = InvalidDocument(FAULTS)

    result = run("policy", "apply", "-f", file, "-o", output)

    assert result == Result(
        1, "", "db.yaml: spec.ingress[1].toPorts[0].ports[0].port: 70000 is not a port\ndb.yaml: has no metadata\n"
    )


def test_fault_on_standard_input_says_so(run: Run, state: FixedAgentState) -> None:
    state.policies.error = InvalidDocument(FAULTS[1:])

    assert run("policy", "apply", "-f", "-").err == "stdin: has no metadata\n"


def test_fault_in_one_of_several_files_keeps_all_from_being_applied(
    run: Run, state: FixedAgentState, file: str, other: str
) -> None:
    state.policies.error = InvalidDocument(FAULTS[1:])

    result = run("policy", "apply", "-f", file, "-f", other)

    assert result == Result(1, "", "db.yaml: has no metadata\nweb.json: has no metadata\nNothing was changed.\n")


def test_document_that_is_no_text_is_refused(run: Run, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"\xff")

    assert run("policy", "apply", "-f", "x") == Result(1, "", "x: is not UTF-8: byte 0 cannot be read\n")


def test_terminal_is_not_steered_by_a_document(run: Run, state: FixedAgentState, file: str) -> None:
    state.policies.error = InvalidDocument([Fault("spec.\x1b[2J", "\x07 is unknown")])

    assert run("policy", "apply", "-f", file).err == "db.yaml: spec.\\x1b[2J: \\x07 is unknown\n"


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (errors.Conflict("another writer was faster"), "db.yaml: another writer was faster\n"),
        (errors.Exhausted("no room"), "db.yaml: no room\n"),
        (errors.StoreUnavailable("etcd is away"), "The hawse agent could not answer: etcd is away\n"),
        (errors.DatapathError("no map"), "The hawse agent could not answer: no map\n"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_error_of_the_agent_is_one_sentence(
    run: Run, state: FixedAgentState, file: str, error: errors.HawseError, sentence: str
) -> None:
    state.policies.error = error

    assert run("policy", "apply", "-f", file) == Result(1, "", sentence)


USAGE = [
    (("apply",), "Missing option '-f'"),
    (("apply", "-f", "missing.yaml"), "File 'missing.yaml' does not exist"),
    (("apply", "-f", "."), "File '.' is a directory"),
    (("apply", "-f", "-", "-f", "-"), "standard input (-) can be read only once."),
    (("apply", "-f", "db.yaml", "--wait=soon"), "'soon' is not a valid float range"),
    (("apply", "-f", "db.yaml", "--wait=-1"), "No such option '-1'"),
    (("apply", "-f", "large.yaml"), "large.yaml is larger than 1048576 bytes"),
    (("delete",), "name a policy, or a document with -f."),
    (("validate",), "Missing option '-f'"),
    (("get",), "Missing argument 'NAME'"),
    (("get", "a", "-o", "table"), "'table' is not one of 'yaml', 'json'"),
    (("wait", "newest"), "'newest' is not a valid integer range"),
    (("wait", "--timeout", "-1"), "-1.0 is not in the range x>=0"),
    (("trace", "--from", "a=b"), "Missing option '--to'"),
]


@pytest.mark.parametrize(("arguments", "sentence"), USAGE, ids=lambda value: " ".join(value[:3]))
def test_wrong_usage_is_exit_2_and_asks_nothing(
    run: Run, state: FixedAgentState, tmp_path: Path, arguments: tuple[str, ...], sentence: str
) -> None:
    (tmp_path / "db.yaml").write_text("kind: Policy")
    (tmp_path / "large.yaml").write_bytes(b"#" * (1024 * 1024 + 1))

    result = run("policy", *arguments)

    assert (result.code, result.out) == (2, "")
    assert sentence in result.err
    assert state.policies.asked == []


def test_apply_waits_for_the_nodes(run: Run, state: FixedAgentState, file: str) -> None:
    state.policies.rollouts = [
        Rollout(revision=123, nodes=(a_rollout(HERE, 123), a_rollout(THERE, 120))),
        Rollout(revision=123, nodes=(a_rollout(HERE, 123), a_rollout(THERE, 124))),
    ]

    result = run("policy", "apply", "-f", file, "--wait=20")

    assert result == Result(
        0, "policy db-from-api created (revision 123)\nrevision 123 is enforced on alpha, beta\n", ""
    )
    asked = [question for question in state.policies.asked if question[0] == "rollout"]  # type: ignore[index]
    assert asked == [("rollout", 123, 5.0), ("rollout", 123, pytest.approx(5.0))]


def test_apply_and_wait_for_programs_is_one_document(run: Run, file: str) -> None:
    document = json.loads(run("policy", "apply", "-f", file, "--wait", "-o", "json").out)

    assert (document["revision"], document["created"], document["rollout"]["complete"]) == (123, ["db-from-api"], True)


def test_wait_shows_which_node_lacks_what(run: Run, state: FixedAgentState) -> None:
    state.policies.rollouts = [
        Rollout(
            revision=123,
            nodes=(
                a_rollout(HERE, 123),
                a_rollout(THERE, 120, problem="the policy map is full"),
                a_rollout(GAMMA, None),
                a_rollout(NodeName("delta"), 100, alive=False),
            ),
        )
    ]

    result = run("policy", "wait", "--timeout", "0.05")

    assert result == Result(
        1,
        dedent("""\
            revision 123 is not enforced on 2 nodes of 3:
              beta: it enforces revision 120: the policy map is full
              gamma: it has never said what it enforces
            """),
        "warning: delta: its agent does not run; it enforces revision 100\n",
    )


def test_wait_keeps_to_the_revision_it_began_with(run: Run, state: FixedAgentState) -> None:
    state.policies.rollouts = [
        Rollout(revision=123, nodes=(a_rollout(HERE, 120),)),
        Rollout(revision=123, nodes=(a_rollout(HERE, 123),)),
    ]

    assert run("policy", "wait").code == 0
    assert [question[:2] for question in state.policies.asked] == [  # type: ignore[index]
        ("rollout", None),
        ("rollout", 123),
    ]


def test_wait_for_programs_is_the_agents_answer(run: Run) -> None:
    assert json.loads(run("policy", "wait", "120", "-o", "json").out)["complete"] is True


def test_wait_outlasts_a_store_that_is_away(run: Run, state: FixedAgentState, monkeypatch: pytest.MonkeyPatch) -> None:
    state.policies.error = errors.StoreUnavailable("etcd is away")
    monkeypatch.setattr(policy_rollout, "_PAUSE_S", 0.001)
    result: list[Result] = []
    waiting = threading.Thread(target=lambda: result.append(run("policy", "wait", "--timeout", "60")))

    waiting.start()
    while not state.policies.asked:
        waiting.join(0.005)
    state.policies.error = None
    waiting.join(60)

    assert result == [Result(0, "revision 123 is enforced on alpha, beta\n", "")]


def test_wait_ends_when_the_store_stays_away(run: Run, state: FixedAgentState) -> None:
    state.policies.error = errors.StoreUnavailable("etcd is away")

    result = run("policy", "wait", "--timeout", "0.05")

    assert result == Result(1, "", "The hawse agent could not answer: etcd is away\n")


def test_policies_are_deleted_by_name_and_by_document(run: Run, state: FixedAgentState, file: str) -> None:
    state.policies.applied = Applied(revision=124, deleted=("db-from-api", "shop/deny-all"))

    result = run("policy", "delete", "shop/deny-all", "-f", file)

    assert result == Result(
        0, "policy db-from-api deleted (revision 124)\npolicy shop/deny-all deleted (revision 124)\n", ""
    )
    assert state.policies.asked[-1] == ("delete", "shop/deny-all", "db-from-api")


def test_policy_that_is_not_there_is_one_sentence(run: Run, state: FixedAgentState) -> None:
    state.policies.error = errors.NotFound("there is no policy 'a'")

    assert run("policy", "delete", "a") == Result(1, "", "there is no policy 'a'\n")


def test_list_shows_policies_and_what_cannot_be_read(run: Run, state: FixedAgentState) -> None:
    state.policies.known = (
        a_policy("db-from-api", selects_here=2),
        a_policy("shop/deny-all", kind="NetworkPolicy", problem="spec: written by a newer hawse"),
    )

    result = run("policy", "ls")

    assert result == Result(
        0,
        dedent("""\
            POLICY         KIND           REVISION  SELECTS HERE  APPLIED ON  APPLIED AT
            db-from-api    Policy              123             2  alpha       2026-03-01T10:00:00Z
            shop/deny-all  NetworkPolicy       123             0  alpha       2026-03-01T10:00:00Z
            NOT OK: shop/deny-all: spec: written by a newer hawse
            """),
        "",
    )


def test_empty_list_says_what_to_do(run: Run, state: FixedAgentState) -> None:
    state.policies.known = ()

    assert run("policy", "ls").out == "There is no policy: hawse policy apply -f FILE\n"


def test_stale_list_warns(run: Run, state: FixedAgentState) -> None:
    state.stale = "etcd is not being followed"

    assert run("policy", "ls").err == "warning: etcd is not being followed\n"


@pytest.mark.parametrize("name", ["db-from-api", "shop/deny-all"])
def test_policy_is_shown_as_it_can_be_applied_again(run: Run, name: str) -> None:
    shown = run("policy", "get", name)
    plain = run("policy", "get", name, "-o", "json")

    assert (shown.code, shown.err) == (0, "")
    assert yaml.safe_load(shown.out) == json.loads(plain.out)
    assert json.loads(plain.out)["metadata"] == DOCUMENT["metadata"]


def test_shown_policy_does_not_steer_the_terminal(run: Run, state: FixedAgentState) -> None:
    record = PolicyRecord(document={"kind": "Policy", "\x1b[2J": ["\x9b", "é", "\u202e"]})
    policy = a_policy("x")
    state.policies.known = (
        type(policy)(name="x", kind="Policy", record=record, revision=1, selects_here=0, problem="is not understood"),
    )

    result = run("policy", "get", "x")

    assert all(character.isprintable() or character == "\n" for character in result.out)
    assert yaml.safe_load(result.out) == dict(record.document)
    assert result.err == "warning: is not understood\n"


@pytest.mark.parametrize("name", ["x", "../status", "a b", "a?b=c", "a#b", "é", "%2e", ""])
def test_unknown_policy_is_one_sentence(run: Run, state: FixedAgentState, name: str) -> None:
    result = run("policy", "get", name)

    assert (result.code, result.out) == (1, "")
    assert result.err.count("\n") == 1
    if name:
        assert state.policies.asked == [("stored_one", name)]


def test_valid_documents_are_named(run: Run, state: FixedAgentState, file: str) -> None:
    result = run("policy", "validate", "-f", file, "-f", "-", stdin=b"{}")

    assert result == Result(0, "db.yaml: policy db-from-api is valid\nstdin: policy db-from-api is valid\n", "")
    assert state.policies.asked == [("validate", "kind: Policy # é\n"), ("validate", "{}")]


def test_invalid_documents_show_all_faults(run: Run, state: FixedAgentState, file: str, other: str) -> None:
    state.policies.error = InvalidDocument(FAULTS)

    result = run("policy", "validate", "-f", file, "-f", other)
    plain = run("policy", "validate", "-f", file, "-o", "json")

    assert (result.code, result.out) == (1, "")
    assert result.err.splitlines() == [f"{name}: {fault}" for name in (file, other) for fault in map(str, FAULTS)]
    assert plain.code == 1
    assert json.loads(plain.out) == {
        "files": [
            {
                "file": "db.yaml",
                "policies": [],
                "faults": [{"path": fault.path, "message": fault.message} for fault in FAULTS],
            }
        ]
    }


def test_trace_goes_step_by_step_to_the_verdict(run: Run, state: FixedAgentState) -> None:
    result = run("policy", "trace", "--from", "app=api", "--to", "10.1.0.9", "--dport", "5432/tcp")

    assert result == Result(
        0,
        dedent("""\
            From: app=api
            To:   10.1.0.9, identity 1002 (app=db, com.docker.stack.namespace=shop)
            Port: 5432/TCP

            Resolving egress policy for app=api
              egress is open
              no policy closes egress of it
            Egress verdict: ALLOWED

            Resolving ingress policy for app=db
              closed by db-from-api, shop/deny-all
              db-from-api spec.ingress[0]: allows (revision 123)
              a rule allows it
            Ingress verdict: ALLOWED

            Final verdict: ALLOWED
            """),
        "",
    )


def test_denied_trace_is_exit_1(run: Run, state: FixedAgentState) -> None:
    guard = RuleReference(policy="labels:1002", path="hawse.ingress", deny=True)
    state.policies.traced = Trace(
        allowed=False,
        steps=(
            TraceStep(
                direction="ingress",
                endpoint="app=db",
                enforced=True,
                selecting=("labels:1002",),
                matched=(guard, DB_FROM_API),
                allowed=False,
                reason="a rule denies it, whatever others allow",
            ),
        ),
    )

    result = run("policy", "trace", "--from", "198.51.100.7", "--to", "1002")

    assert result.code == 1
    assert result.out == dedent("""\
        From: 198.51.100.7, outside of the cluster
        To:   1002, identity 1002 (app=db, com.docker.stack.namespace=shop)
        Port: any

        Resolving ingress policy for app=db
          closed by labels:1002
          labels:1002 hawse.ingress: denies
          db-from-api spec.ingress[0]: allows (revision 123)
          a rule denies it, whatever others allow
        Ingress verdict: DENIED

        Final verdict: DENIED
        """)


@pytest.mark.parametrize(
    ("dport", "shown"),
    [
        ("", "any"),
        ("udp", "any UDP"),
        ("icmp", "any ICMP type"),
        ("icmp/8", "ICMP type 8"),
        ("53", "53 (any protocol)"),
        ("53/udp", "53/UDP"),
        ("http", "http (any protocol)"),
        ("http/tcp", "http (TCP)"),
    ],
)
def test_trace_shows_the_port_as_it_was_understood(run: Run, dport: str, shown: str) -> None:
    result = run("policy", "trace", "--from", "host", "--to", "app=db", "--dport", dport)

    assert f"From: host, identity 1 (reserved:host)\nTo:   app=db\nPort: {shown}\n" in result.out


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--from", "web", "--to", "a=b"), "from: 'web' is no label"),
        (("--from", "a=b", "--to", "4711"), "to: there is no identity 4711\n"),
        (("--from", "a=b", "--to", "c=d", "--dport", "70000/tcp"), "dport: 70000 is no port: 1 to 65535\n"),
        (("--from", "a=b", "--to", "\x1b[2J"), "to: '\\x1b[2J' is no label"),
    ],
)
def test_question_that_is_not_understood_is_one_sentence(run: Run, arguments: tuple[str, ...], sentence: str) -> None:
    result = run("policy", "trace", *arguments)

    assert (result.code, result.out) == (1, "")
    assert result.err.startswith(sentence)


def test_trace_that_no_policy_is_asked_about_says_so(run: Run, state: FixedAgentState) -> None:
    state.policies.traced = Trace(allowed=True, steps=())

    assert run("policy", "trace", "--from", "198.51.100.7", "--to", "host").out == dedent("""\
        From: 198.51.100.7, outside of the cluster
        To:   host, identity 1 (reserved:host)
        Port: any

        Neither end is a container of the cluster: no policy is asked

        Final verdict: ALLOWED
        """)


def test_trace_to_a_service_is_a_case_for_each_identity_behind_it(run: Run, state: FixedAgentState) -> None:
    state.known_endpoints = (
        an_endpoint(ENDPOINT_HERE, HERE, "10.1.0.9", identity=DB),
        an_endpoint(ENDPOINT_THERE, THERE, "10.1.0.10", identity=WEB),
    )
    state.policies.traced = Trace(allowed=True, steps=state.policies.traced.steps[:1])

    assert run("policy", "trace", "--from", "app=api", "--to", "service:shop_web", "--dport", "80/tcp") == Result(
        0,
        dedent("""\
            From: app=api
            To:   service:shop_web, the containers behind the service shop_web
            Port: 80/TCP

            Case 1 of 2: from app=api to identity 1001 (app=web), port 80/TCP

            Resolving egress policy for app=api
              egress is open
              no policy closes egress of it
            Egress verdict: ALLOWED

            Case 1 of 2: ALLOWED

            Case 2 of 2: from app=api to identity 1002 (app=db, com.docker.stack.namespace=shop), port 80/TCP

            Resolving egress policy for app=api
              egress is open
              no policy closes egress of it
            Egress verdict: ALLOWED

            Case 2 of 2: ALLOWED

            Final verdict: ALLOWED, 2 of 2 cases are allowed
            """),
        "",
    )


def test_trace_to_a_service_of_one_identity_says_where_it_listens(run: Run, state: FixedAgentState) -> None:
    state.balancing.known = (a_label_service(backends=(a_backend("cache", "10.1.0.9", port=16379),)),)

    result = run("policy", "trace", "--from", "app=api", "--to", "10.1.0.3", "--dport", "6379/tcp")

    assert result.out.splitlines()[:3] == [
        "From: app=api",
        "To:   10.1.0.3, service cache, identity 1002 (app=db, com.docker.stack.namespace=shop)",
        "Port: 16379/TCP, of the service 6379/TCP",
    ]


def test_trace_for_programs_is_the_agents_answer(run: Run, state: FixedAgentState) -> None:
    result = run("policy", "trace", "--from", "app=api", "--to", "world", "-o", "json")

    assert (result.code, json.loads(result.out)["allowed"]) == (0, True)
    assert state.policies.asked == [TraceQuestion(source=Labels.of({"app": "api"}), destination=IDENTITY_WORLD)]


def test_identities_are_listed(run: Run) -> None:
    assert run("identity", "ls").out == dedent("""\
        IDENTITY  ENDPOINTS  INGRESS  EGRESS  LABELS
               1          0  -        -       reserved:host
               5          2  closed   closed  reserved:init
            1001          0  -        -       app=web
            1002          2  closed   open    app=db, com.docker.stack.namespace=shop
        """)


def test_identity_shows_its_policies(run: Run) -> None:
    assert run("identity", "get", "1002").out == dedent("""\
        identity   1002
        labels     app=db
                   com.docker.stack.namespace=shop
        namespace  shop
        endpoints  2
        ingress    closed; selected by db-from-api, shop/deny-all
        egress     open
        """)


def test_unused_identity_says_so(run: Run, state: FixedAgentState) -> None:
    answer = state.policies.known_identities[1]
    state.policies.known_identities = (
        type(answer)(
            number=answer.number,
            labels=Labels(),
            endpoints=0,
            ingress_enforced=None,
            egress_enforced=None,
            unused_since="2026-03-01T10:00:00Z",
        ),
    )

    assert run("identity", "get", "1001").out == dedent("""\
        identity   1001
        labels     none
        namespace  default
        endpoints  0
        ingress    not enforced on this host
        egress     not enforced on this host
        unused     since 2026-03-01T10:00:00Z, to be deleted
        """)
    assert run("identity", "ls").out.endswith("  - (unused)\n")


@pytest.mark.parametrize(
    ("number", "code", "sentence"),
    [
        ("4711", 1, "there is no identity 4711\n"),
        ("web", 2, "'web' is not a valid integer range"),
        ("-1", 2, "No such option"),
        (str(2**32), 2, "is not in the range"),
    ],
)
def test_identity_that_is_not_there(run: Run, number: str, code: int, sentence: str) -> None:
    result = run("identity", "get", number)

    assert result.code == code
    assert sentence in result.err


def test_policy_map_is_decoded(run: Run) -> None:
    assert run("bpf", "policy", "ls").out == dedent("""\
        IDENTITY     DIRECTION  VERDICT  PEER                   PORT             RULE
        1002 app=db  egress     allow    any                    32768-65535/udp  db-from-api spec.ingress[0]
        1002 app=db  ingress    allow    1001 app=web           5432/tcp         db-from-api spec.ingress[0]
        1002 app=db  ingress    deny     16777216 192.0.2.0/24  any              99, not known here
        """)


def test_connections_are_decoded(run: Run) -> None:
    rule = "ingress: db-from-api spec.ingress[0]"
    assert run("bpf", "ct", "ls").out == dedent(f"""\
        PROTOCOL  SOURCE                  DESTINATION            VNI  STATE         IDLE  EPOCH  RULE
        TCP       10.1.0.10:40001 (1001)  10.1.0.9:5432 (1002)  4097  established     0s      7  {rule}
        TCP       10.1.0.10:40002 (1001)  10.1.0.9:5432 (1002)  4097  established  1m 1s      7  {rule}
        """)


def test_connections_beyond_the_limit_are_counted(run: Run) -> None:
    lines = run("bpf", "ct", "ls", "--limit", "1").out.splitlines()

    assert 3 == len(lines)
    assert "10.1.0.10:40001 (1001)" in lines[1]
    assert "1 more entry, used less lately: see --limit" == lines[2]
    assert 2 == run("bpf", "ct", "ls", "--limit", "0").code


def test_ipcache_is_decoded(run: Run) -> None:
    assert run("bpf", "ipcache", "ls").out == dedent("""\
         VNI  ADDRESS    NODE       IFINDEX  IDENTITY
          17  10.1.0.9   this one         -  2
        4097  10.1.0.9   this one         7  1002 app=db
        4097  10.1.0.10  192.0.2.2        -  1001 app=web
        """)


@pytest.mark.parametrize(
    ("name", "attribute", "empty"),
    [("policy", "entries", {}), ("ct", "tracked", ()), ("ipcache", "places", {})],
)
def test_empty_map_is_a_sentence(run: Run, state: FixedAgentState, name: str, attribute: str, empty: Any) -> None:
    setattr(state, attribute, empty)

    result = run("bpf", name, "ls")

    assert (result.code, result.out.count("\n"), result.err) == (0, 1, "")
    assert result.out[:-1].endswith(".")


@pytest.mark.parametrize("name", ["policy", "ct", "ipcache"])
def test_map_that_cannot_be_read_is_one_sentence(run: Run, state: FixedAgentState, name: str) -> None:
    state.kernel_error = errors.DatapathError("the map is gone")

    assert run("bpf", name, "ls") == Result(1, "", "The hawse agent could not answer: the map is gone\n")


def test_documentation_shows_what_trace_shows(run: Run) -> None:
    documentation = (Path(__file__).parents[2] / "docs" / "cli.md").read_text()

    shown = run("policy", "trace", "--from", "app=api", "--to", "10.1.0.9", "--dport", "5432/tcp").out

    assert indent(shown, "    ") in documentation
