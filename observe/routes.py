"""The routes of the agent's API: one table, from which both the application and its OpenAPI description are made.

A policy may have any name, so no fixed word stands where its name does.
"""

from __future__ import annotations

from typing import Final

from observe import (
    describe,
    endpoint_describe,
    identity_describe,
    map_describe,
    policy_describe,
    service_describe,
    trace_describe,
    translation_describe,
)
from observe.document import (
    AddressesDocument,
    CheckDocument,
    CountersDocument,
    NetworksDocument,
    NodesDocument,
    StatusDocument,
)
from observe.endpoint_document import EndpointDocument, EndpointsDocument
from observe.identity_describe import IdentityQuestion
from observe.identity_document import IdentitiesDocument, IdentityDocument
from observe.map_document import ConnectionsDocument, IpcacheDocument, PolicyMapDocument
from observe.policy_describe import PolicyQuestion, RolloutQuestion
from observe.policy_document import (
    AppliedDocument,
    DeletionDocument,
    PoliciesDocument,
    PolicyDocument,
    RolloutDocument,
    ValidDocument,
)
from observe.route import Route
from observe.service_describe import ServiceQuestion
from observe.service_document import ServiceDocument, ServicesDocument
from observe.trace_document import TraceDocument, TraceQuestionDocument
from observe.translation_document import FrontendsDocument, PublishedPortsDocument, TranslationsDocument

ROUTES: Final = (
    Route.read("/v1/status", StatusDocument, describe.status, "How the agent, the store and the datapath are"),
    Route.read("/v1/nodes", NodesDocument, describe.nodes, "The hosts of the cluster"),
    Route.read("/v1/networks", NetworksDocument, describe.networks, "The hawse networks"),
    Route.read(
        "/v1/endpoints", EndpointsDocument, endpoint_describe.endpoints, "The container interfaces of all hosts"
    ),
    Route.ask(
        "/v1/endpoints/{endpoint}",
        EndpointDocument,
        endpoint_describe.EndpointQuestion,
        endpoint_describe.endpoint,
        "One container interface",
    ),
    Route.read("/v1/addresses", AddressesDocument, describe.addresses, "The address pools and the addresses in use"),
    Route.read("/v1/check", CheckDocument, describe.check, "Compare addresses with endpoints and Docker's networks"),
    Route.read("/v1/counters", CountersDocument, describe.counters, "Packets of this host by outcome and direction"),
    Route.read("/v1/policies", PoliciesDocument, policy_describe.policies, "The policy documents of the cluster"),
    Route.post_text(
        "/v1/policies", AppliedDocument, policy_describe.apply, "Create or replace policies: all of a document or none"
    ),
    Route.post_text(
        "/v1/policies/validate", ValidDocument, policy_describe.validate, "Check policies; nothing is written"
    ),
    Route.post(
        "/v1/policies/delete",
        AppliedDocument,
        DeletionDocument,
        policy_describe.delete,
        "Delete policies: all that are named or none",
    ),
    Route.post(
        "/v1/policies/trace",
        TraceDocument,
        TraceQuestionDocument,
        trace_describe.trace,
        "Whether a connection is allowed, and why",
    ),
    Route.ask(
        "/v1/policies/{name}",
        PolicyDocument,
        PolicyQuestion,
        policy_describe.policy,
        "One policy document as it was applied",
    ),
    Route.ask(
        "/v1/rollout",
        RolloutDocument,
        RolloutQuestion,
        policy_describe.rollout,
        "How far the nodes are with a policy change; waits for them",
    ),
    Route.read("/v1/identities", IdentitiesDocument, identity_describe.identities, "The security identities"),
    Route.ask(
        "/v1/identities/{number}",
        IdentityDocument,
        IdentityQuestion,
        identity_describe.identity,
        "One security identity",
    ),
    Route.read("/v1/services", ServicesDocument, service_describe.services, "The services of the cluster"),
    Route.ask(
        "/v1/services/{service}",
        ServiceDocument,
        ServiceQuestion,
        service_describe.service,
        "One service with its backends",
    ),
    Route.read("/v1/bpf/policy", PolicyMapDocument, map_describe.policy_map, "The policy map of this host, decoded"),
    Route.ask(
        "/v1/bpf/ct",
        ConnectionsDocument,
        map_describe.NewestQuestion,
        map_describe.connections,
        "The connections that this host tracks",
    ),
    Route.read("/v1/bpf/ipcache", IpcacheDocument, map_describe.ipcache, "Where every address is, as this host has it"),
    Route.read(
        "/v1/bpf/lb",
        FrontendsDocument,
        translation_describe.frontends,
        "The services of this host, as the kernel has them",
    ),
    Route.ask(
        "/v1/bpf/nat",
        TranslationsDocument,
        map_describe.NewestQuestion,
        translation_describe.translations,
        "The connections that this host translates",
    ),
    Route.read(
        "/v1/bpf/published", PublishedPortsDocument, translation_describe.published, "The published ports of this host"
    ),
)
