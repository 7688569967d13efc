"""Composition root: settings -> stores -> parts -> App. The only module that names a back end.

>>> async with open_app() as app:                                       # doctest: +SKIP
...     answer = await app.ask("How long may I return a damaged sensor?", app="handbook", user="dana")
...     print(answer.text, answer.citations[0].source)
"""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal, NamedTuple

from interlock import __version__
from interlock.access.accounts import Accounts
from interlock.access.directory import read_directory
from interlock.access.keys import Keys
from interlock.access.service import Access
from interlock.access.tokens import Tokens
from interlock.config import StoreSettings, Workspace, find_workspace, load_settings
from interlock.configuration import Configuration
from interlock.core.answers import Answer
from interlock.core.context import Context
from interlock.core.errors import InterlockError, InvalidInput, Misconfigured, NotFound, Unavailable
from interlock.core.ids import TenantId
from interlock.core.messages import ChatRequest, text_message
from interlock.core.passages import Passage
from interlock.core.ports import Embedder, Meter
from interlock.core.release import Release
from interlock.core.sealing import Sealer
from interlock.core.trace import SpanSink
from interlock.cost.admission import Admission
from interlock.cost.journal import Journal
from interlock.cost.prices import Prices
from interlock.cost.recovery import recover
from interlock.cost.rules import Rules
from interlock.cost.service import Costs
from interlock.evals.monitoring.service import Monitors
from interlock.evals.review.service import Reviews
from interlock.evals.service import Evaluations
from interlock.flows.app_files import app_sources, prompt_places
from interlock.flows.chat import Receipt, ask, chat, has_knowledge
from interlock.flows.monitor_files import MonitorFiles
from interlock.flows.parts import Parts
from interlock.flows.passage_vectors import PassageVectors
from interlock.flows.sampling import Sampling
from interlock.flows.scanning import DocumentScanner
from interlock.flows.shadowing import Shadowing
from interlock.gateway.background import Background
from interlock.gateway.cache.calibration import SEMANTIC_CALIBRATION, read_calibration
from interlock.gateway.cache.semantic import Semantic
from interlock.gateway.cache.service import AnswerCache
from interlock.gateway.cache.store import CacheStore
from interlock.gateway.cache.types import CacheScope
from interlock.gateway.conversations import Conversations
from interlock.gateway.detect import Detected, detect
from interlock.gateway.kept import Kept
from interlock.gateway.ports import ProviderDeps
from interlock.gateway.service import Gateway, Served
from interlock.gateway.settings import GatewaySettings
from interlock.gateway.types import RouteSpec, Target
from interlock.governance.service import Governance
from interlock.governance.signing import HeadSigner
from interlock.governance.subjects import Subjects
from interlock.guardrails.service import Guardrails
from interlock.knowledge.embedders import embedders
from interlock.knowledge.external.service import IndexFiles
from interlock.knowledge.grounding.service import Grounding, ReadText
from interlock.knowledge.grounding.types import AnswerSpec
from interlock.knowledge.ports import CallersEmbedder
from interlock.knowledge.release import RetrievalSpec
from interlock.knowledge.scratch import SCRATCH, sweep
from interlock.knowledge.service import KnowledgeService
from interlock.knowledge.settings import KnowledgeSettings
from interlock.knowledge.sources import SourceSpec, read_spec
from interlock.knowledge.types import Reading
from interlock.observe.exporters.openlineage import OpenLineageSink
from interlock.observe.exporters.otlp import OtlpSink
from interlock.observe.service import Observe
from interlock.prompts.registry import Place, Prompts
from interlock.releases.service import Releases
from interlock.releases.types import AppSource
from interlock.serving.catalogue import entries
from interlock.serving.service import Models, default_models_dir
from interlock.stores.blob.base import Blobs
from interlock.stores.blob.files import FileBlobs
from interlock.stores.events.parquet import ParquetEvents
from interlock.stores.index.base import Index
from interlock.stores.index.memory import VectorMemory
from interlock.stores.index.sqlite import SqliteIndex
from interlock.stores.jobs.sql import SqlJobs
from interlock.stores.kv.base import Kv
from interlock.stores.kv.memory import MemoryKv
from interlock.stores.kv.sql import SqlKv
from interlock.stores.sql import Sql, open_sql

__all__ = ["App", "Finished", "open_app"]

_log = logging.getLogger("interlock.app")


class _Specs(NamedTuple):
    known: Mapping[str, tuple[Path, SourceSpec]]
    """By collection."""
    broken: Mapping[str, InterlockError]
    """By file name."""


@dataclass(frozen=True, slots=True)
class Finished:
    """An answer and what it used."""

    answer: Answer
    receipt: Receipt


@dataclass(frozen=True, slots=True)
class App:
    """A running Interlock in this process."""

    configuration: Configuration
    parts: Parts
    sql: Sql
    blobs: Blobs
    kv: Kv
    embedded_index: bool
    """True when the index is files of this machine, False when it lives in the database."""
    detected: tuple[Detected, ...]
    """Models found on this machine, when `gateway.detect` is on."""

    @property
    def workspace(self) -> Workspace:
        """The workspace and the settings that hold now."""
        return self.configuration.workspace

    def owner(self) -> Context:
        """Context of the person at this machine."""
        return self.parts.access.local_owner()

    def collections(self) -> Mapping[str, Path]:
        """Knowledge files of the workspace that can be read, by collection name. Reads them."""
        return {name: path for name, (path, _) in self._specs().known.items()}

    def broken_collections(self) -> Mapping[str, InterlockError]:
        """What is wrong with the other knowledge files, by file name."""
        return self._specs().broken

    def _specs(self) -> _Specs:
        return _read_specs(self.workspace)

    def ingested_collections(self) -> list[str]:
        """Names of those that are ingested here; the others stand in indexes elsewhere."""
        return [name for name, (_, spec) in self._specs().known.items() if spec.index is None]

    def source_spec(self, collection: str) -> SourceSpec:
        """One collection's sources and permissions, read now. Raises: NotFound, InvalidInput."""
        known, broken = self._specs()
        if collection in known:
            return known[collection][1]
        if f"{collection}.yaml" in broken:
            raise broken[f"{collection}.yaml"]
        hint = f"known: {', '.join(known) or 'none; add knowledge/NAME.yaml'}"
        if broken:
            hint += f"; cannot be read: {', '.join(broken)}"
        raise NotFound(f"no collection {collection!r} in this workspace", param="collection", hint=hint)

    async def resolve(self, ctx: Context, model: str) -> Release | None:
        """The release behind ``app/NAME[@channel]``, None for a route or a provider's model."""
        return await self.parts.releases.resolve(ctx, model) if model.startswith("app/") else None

    async def ask(
        self, question: str, *, app: str, user: str | None = None, variables: Mapping[str, object] | None = None
    ) -> Finished:
        """Ask an app with documents and wait for the whole answer.

        Args:
            question: as a person would write it.
            app: ``NAME`` or ``NAME@channel``.
            user: a user of the workspace's directory to ask as; None sees public documents only.
            variables: values for the app's prompt.

        Raises: NotFound, Blocked, ModelMissing, InvalidInput.
        """
        ctx = self.owner()
        if user is not None:
            ctx = self.parts.access.act_as(ctx, user)
        return await self.ask_as(ctx, question, app=app, variables=variables)

    async def ask_as(
        self, ctx: Context, question: str, *, app: str, variables: Mapping[str, object] | None = None
    ) -> Finished:
        """The same for a caller of one's own. Raises: as `ask`."""
        request = ChatRequest(f"app/{app}", (text_message("user", question),), variables=variables or {})
        release = await self.parts.releases.resolve(ctx, request.model)
        if not has_knowledge(release):
            raise InvalidInput(f"the app {release.app!r} has no documents to answer from", param="app")
        answer: Answer | None = None
        receipt: Receipt | None = None
        async with aclosing(ask(self.parts, ctx, request, release)) as events:
            async for event in events:
                if isinstance(event, Answer):
                    answer = event
                elif isinstance(event, Receipt):
                    receipt = event
        assert answer is not None and receipt is not None, "an answer stream ends with both or raises"
        return Finished(answer, receipt)

    async def warm(self) -> None:
        """Load the local models that apps use, so that the first question does not wait. Missing ones are left out."""
        try:
            if any(self.workspace.path(self.workspace.settings.knowledge_dir).glob("*.yaml")):
                await self._warm_embedders()
                if self.parts.knowledge.reader is not None:
                    await self.parts.knowledge.reader.read([Reading("warm?", "warm", "")])
        except Unavailable as error:
            # A missing model or library: the first question says so, with the command that mends it.
            _log.warning("not warmed: %s", error.code)
        wanted = {name for source in self.parts.releases.apps() for name in _targets(source)}
        for model in await self.parts.gateway.warm(sorted(wanted)):
            _log.info("loaded %s", model)

    async def _warm_embedders(self) -> None:
        """Those that answer here, and the one that judges answers. What a provider runs is warm."""
        knowledge = self.parts.knowledge
        spaces = [await knowledge.spaces.answering(self.owner(), name) for name in self.ingested_collections()]
        for embedder in dict.fromkeys([*(space.opened for space in spaces), knowledge.embedder]):
            if embedder is not None and not isinstance(embedder, CallersEmbedder):
                await embedder.embed(["warm"], "query")

    def chat(
        self, ctx: Context, request: ChatRequest, release: Release | None, *, served: Served | None = None
    ) -> AsyncGenerator[Any, None]:
        """The right flow for a call: events of `flows.chat.ask` or of `flows.chat.chat`.

        Args:
            served: filled with the model's target and the routing decision as the call proceeds.
        """
        if release is not None and has_knowledge(release):
            return ask(self.parts, ctx, request, release, served=served)
        return chat(self.parts, ctx, request, release, served=served)


@asynccontextmanager
# Any: flags are settings before validation.
async def open_app(
    root: Path | None = None,
    *,
    flags: Mapping[str, Any] | None = None,
    without: Collection[Literal["sql", "kv"]] = (),
) -> AsyncIterator[App]:
    """Open the workspace at `root` (or the nearest one above the working directory), migrate, and close in order.

    Args:
        without: stores that are away. Empty ones that are thrown away stand in for them, and what a worker that died
            left behind stays as it is: for looking at the rest (`interlock doctor`), never for serving.

    Raises: NotFound: no workspace. Misconfigured: names the setting.
    """
    workspace = load_settings(find_workspace(root), flags)
    settings = workspace.settings
    data = workspace.data
    try:
        data.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise Misconfigured(
            f"the data folder {str(data)!r} cannot be made: {error.strerror}",
            param="data_dir",
            hint="set data_dir in interlock.yaml to a folder you may write to",
        ) from error
    async with AsyncExitStack() as stack:
        spare = Path(stack.enter_context(TemporaryDirectory(prefix="interlock-"))) if without else data
        sql = open_sql(
            f"sqlite:///{spare}/spare.db" if "sql" in without else settings.stores.sql.replace("{data}", str(data)),
            synchronous="full" if settings.stores.durable else "normal",
        )
        stack.push_async_callback(sql.close)
        await sql.migrate()
        blobs = _open_blobs(settings.stores, data)
        stack.push_async_callback(blobs.close)
        index = _open_index(settings.stores, data, sql)
        stack.push_async_callback(index.close)
        kv = await _open_kv("memory" if "kv" in without else settings.stores.kv, sql)
        stack.push_async_callback(kv.close)
        events = ParquetEvents(data / "events", retention_days=settings.observe.retention_days)
        stack.push_async_callback(events.close)
        exporters: list[SpanSink] = []
        if settings.observe.otlp_endpoint:
            otlp = OtlpSink(settings.observe, __version__)
            stack.callback(otlp.close)
            exporters.append(otlp)
        lineage = OpenLineageSink(settings.observe) if settings.observe.openlineage_url else None
        sealer = Sealer(data / "master.key")
        observe = Observe(events, exporters, lineage, pseudonym=_pseudonyms(sealer, "asker"))
        governance = Governance(sql, HeadSigner(data / "audit.key"), Subjects(sql, sealer))
        stack.push_async_callback(governance.close)
        models = Models(Path(settings.models_dir).expanduser() if settings.models_dir else default_models_dir())
        knowledge = KnowledgeService(
            sql,
            blobs,
            index,
            settings=settings.knowledge.model_copy(update={"models": models.folder}),
            scanner=DocumentScanner(),
            compute=settings.compute,
            # The parts are there by the time somebody searches.
            vectors=PassageVectors(lambda: parts),
            configured=lambda tenant: _collections_of(workspace, tenant),
            external=IndexFiles(workspace.path(settings.knowledge_dir), settings.tenant),
            scratch=data / SCRATCH,
        )
        stack.push_async_callback(knowledge.close)
        sweep(data / SCRATCH)
        near = _near(knowledge, settings.knowledge, models.folder)
        grounding = Grounding(
            near,
            reader=knowledge.reader,
            read_text=_texts(knowledge),
            models=models.folder,
            threads=settings.knowledge.embedder_threads,
        )
        detected = tuple(await detect(os.environ)) if settings.gateway.detect else ()
        gateway_settings = _with_detected(settings.gateway, detected)
        kinds = {name: provider.kind for name, provider in gateway_settings.providers.items()}
        prices = Prices(settings.cost.prices, kinds, settings.cost.batch_discount)
        kept_answers = CacheStore(kv)

        @asynccontextmanager
        async def shadow_bill(ctx: Context, scope: CacheScope) -> AsyncIterator[Meter]:
            async with costs.reserve(ctx, None, app=scope.app, outcome="shadow") as bill:
                yield bill

        gateway = Gateway(
            gateway_settings,
            ProviderDeps(
                models,
                grounding.quoter,
                {"minilm-l6-int8": _minilm(knowledge, settings.knowledge, models.folder)},
                os.environ,
            ),
            prices=prices,
            cache=AnswerCache(
                kept_answers,
                Semantic(kept_answers, near, read_calibration(data / SEMANTIC_CALIBRATION)),
            ),
            shadow_meter=shadow_bill,
        )
        stack.push_async_callback(gateway.close)

        def pins(route: RouteSpec, retrieval: RetrievalSpec | None, spec: AnswerSpec) -> Mapping[str, object]:
            pinned = _pins(gateway_settings, route, knowledge if retrieval else None, retrieval)
            if retrieval is None:
                return pinned
            if spec.checker.kind == "llm" and spec.checker.model:
                judge = RouteSpec(targets=[spec.checker.model])
                pinned = {**_pins(gateway_settings, judge, None), **pinned}
            return {**pinned, "checker": grounding.checker(spec.checker).id}

        sources = app_sources(
            workspace.path(settings.apps_dir),
            pins=pins,
            detected=[found.target for found in detected],
            fusion=knowledge.fusion_of,
            steps=knowledge.steps_of,
            prompts=workspace.path(settings.prompts.folder),
            root=workspace.root,
        )
        directory = read_directory(workspace.path(settings.access.users)) if settings.access.users else {}
        access = Access(
            settings=settings.access,
            tenant=settings.tenant,
            keys=Keys(sql),
            tokens=Tokens(sql, sealer, settings.access.token_max_age_s),
            accounts=Accounts(sql, kv, settings.access, governance),
            directory=directory,
            audit=governance,
            sink=observe,
        )
        await recover(spare / "journal", sql, kv, prices)
        journal = Journal(spare / "journal", fsync=settings.cost.journal_fsync)
        admission = Admission(kv, journal, tenant=settings.tenant, rules=settings.cost.limits)
        costs = Costs(
            sql,
            prices,
            admission,
            journal,
            wait_for_ledger=settings.cost.wait_for_ledger,
            pseudonym=_pseudonyms(sealer, "ledger"),
        )
        stack.push_async_callback(costs.close)
        limits = Rules(sql, admission, governance)
        await limits.refresh()
        costs.start(limits.refresh)
        # Copies of requests have bills of their own: they end before the bills do.
        stack.push_async_callback(gateway.shadows.close)
        kept = Kept(
            sql,
            blobs,
            sealer,
            rights=knowledge,
            response_days=gateway_settings.response_max_age_days,
            file_days=gateway_settings.file_max_age_days,
        )
        releases = Releases(
            sql,
            blobs,
            governance,
            sources,
            policies=settings.releases.by_channel,
            flags=lambda: settings.releases.flags,
        )

        def copied(ctx: Context, request: ChatRequest, release: Release) -> AsyncGenerator[Any, None]:
            # The parts are there by the time somebody asks.
            return (ask if has_knowledge(release) else chat)(parts, ctx, request, release)

        monitors = Monitors(sql, governance)
        sampling = Sampling(monitors, MonitorFiles(workspace.path(settings.apps_dir)), settings.tenant)
        stack.push_async_callback(sampling.drain)
        shadowing = Shadowing(releases, copied)
        stack.push_async_callback(shadowing.close)
        parts = Parts(
            access=access,
            gateway=gateway,
            knowledge=knowledge,
            grounding=grounding,
            releases=releases,
            guardrails=Guardrails(),
            observe=observe,
            cost=costs,
            limits=limits,
            governance=governance,
            models=models,
            jobs=SqlJobs(sql),
            kept=kept,
            conversations=Conversations(kept),
            background=Background(kept),
            shadowing=shadowing,
            reviews=Reviews(sql, governance),
            prompts=Prompts(
                sql,
                governance,
                root=workspace.root,
                settings=settings.prompts,
                places=lambda tenant: _prompt_places(workspace, sources, tenant),
                embedder=near,
            ),
            monitors=monitors,
            sampling=sampling,
            evaluations=Evaluations(data / "evaluations" / "runs"),
        )
        configuration = Configuration(
            workspace, flags or {}, parts, complete=lambda given: _with_detected(given, detected)
        )
        yield App(configuration, parts, sql, blobs, kv, isinstance(index, SqliteIndex), detected)


def _read_specs(workspace: Workspace) -> _Specs:
    folder = workspace.path(workspace.settings.knowledge_dir)
    known: dict[str, tuple[Path, SourceSpec]] = {}
    broken: dict[str, InterlockError] = {}
    for path in sorted(folder.glob("*.yaml")):
        try:
            spec = read_spec(path)
        except InterlockError as error:
            # One collection's fault must not stop the others.
            broken[path.name] = error
        else:
            known[spec.collection] = (path, spec)
    return _Specs(known, broken)


def _collections_of(workspace: Workspace, tenant: TenantId) -> Collection[str] | None:
    """Names of a tenant's knowledge files; None for another tenant, and where a file is broken, which doctor tells."""
    specs = _read_specs(workspace) if tenant == workspace.settings.tenant else None
    return None if specs is None or specs.broken else specs.known


def _prompt_places(workspace: Workspace, sources: Mapping[str, AppSource], tenant: TenantId) -> Mapping[str, Place]:
    visible = {name for name, source in sources.items() if _is_for(source, tenant)}
    settings = workspace.settings
    if not visible and tenant != settings.tenant:
        return {}
    return prompt_places(workspace.path(settings.apps_dir), workspace.path(settings.prompts.folder), visible)


def _is_for(source: AppSource, tenant: TenantId) -> bool:
    try:
        named = source.tenants()
    except InvalidInput:
        # It was never whole: nobody can call it, and who looks is told what to mend.
        return True
    return named is None or tenant in named


def _targets(source: AppSource) -> Sequence[str]:
    try:
        return RouteSpec.model_validate(source.load()["route"]).targets
    except InterlockError:
        # A broken app file is reported when the app is asked, and by doctor.
        return ()


async def _open_kv(kind: str, sql: Sql) -> Kv:
    if kind == "memory":
        return MemoryKv()
    if kind == "sql":
        return SqlKv(sql)
    from interlock.stores.kv.redis import RedisKv

    redis = RedisKv(kind, password=os.environ.get("REDISCLI_AUTH") or os.environ.get("VALKEYCLI_AUTH"))
    try:
        await redis.ping()
    except BaseException:
        await redis.close()
        raise
    return redis


def _open_blobs(stores: StoreSettings, data: Path) -> Blobs:
    if stores.blobs == "files":
        return FileBlobs(data / "blobs")
    from interlock.stores.blob.s3 import open_s3

    return open_s3(stores.blobs, stores.s3, os.environ.get)


def _open_index(stores: StoreSettings, data: Path, sql: Sql) -> Index:
    kind = stores.index
    if kind == "postgresql" or (kind == "auto" and sql.dialect == "postgresql"):
        from interlock.stores.index.postgres import PostgresIndex

        return PostgresIndex(sql)
    return SqliteIndex(data / "index", memory=VectorMemory(stores.index_memory_mb << 20))


def _texts(knowledge: KnowledgeService) -> ReadText:
    """Lets a table row find the header that stands before its passage, with the caller's own rights."""

    async def read(ctx: Context, passage: Passage) -> str | None:
        try:
            return (await knowledge.document_text(ctx, passage.document_id, passage.document_digest)).text
        except NotFound:
            return None

    return read


def _with_detected(settings: GatewaySettings, detected: Sequence[Detected]) -> GatewaySettings:
    missing = {found.name: found.settings for found in detected if found.name not in settings.providers}
    return settings.model_copy(update={"providers": {**settings.providers, **missing}})


def _pseudonyms(sealer: Sealer, purpose: Literal["asker", "ledger"]) -> Callable[[TenantId, str], str]:
    """What stands for an end user, another for each purpose.

    Remembered: the request path must not read the key file each time.
    """

    @lru_cache(maxsize=10_000)
    def pseudonym(tenant: TenantId, user: str) -> str:
        return "user:" + sealer.pseudonym(f"{tenant}\0{user}", purpose)

    return pseudonym


def _near(knowledge: KnowledgeService, settings: KnowledgeSettings, folder: Path) -> Embedder:
    """What judges answers and finds kept ones: knowledge's own embedder, or the local one where that is a provider's,
    which would be paid for every sentence.
    """
    return _minilm(knowledge, settings, folder) if settings.embedder == "provider" else knowledge.embedder


def _minilm(knowledge: KnowledgeService, settings: KnowledgeSettings, folder: Path) -> Embedder:
    """What callers of the local model get, whichever one knowledge uses; one instance where both are the same."""
    if settings.embedder == "minilm":
        return knowledge.embedder
    return embedders.get("minilm").open(folder, threads=settings.embedder_threads)


def _pins(
    settings: GatewaySettings,
    route: RouteSpec,
    knowledge: KnowledgeService | None,
    retrieval: RetrievalSpec | None = None,
) -> Mapping[str, object]:
    """Digests of the weights we serve ourselves; a hosted model is pinned by its name."""
    known = {entry.name: entry for entry in entries()}
    pinned: dict[str, object] = {}
    if knowledge is not None:
        of_collection = knowledge.embedder if retrieval is None else knowledge.embedder_of(retrieval.collection)
        pinned["embedder"] = of_collection.id
        if knowledge.reader is not None:
            pinned["reader"] = knowledge.reader.id
        if retrieval is not None and retrieval.steps is not None and retrieval.steps.rerank is not None:
            pinned["reranker"] = knowledge.reranker_identity(retrieval.steps)
    for name in route.targets:
        target = Target.parse(name)
        provider = settings.providers.get(target.provider)
        if provider is None:
            raise Misconfigured(
                f"the target {name!r} names a provider that is not configured",
                param="route.targets",
                hint="add it under gateway.providers in interlock.yaml",
            )
        if provider.kind == "local" and target.model in known:
            pinned[name] = {file.role: f"sha256:{file.sha256}" for file in known[target.model].files}
    return pinned
