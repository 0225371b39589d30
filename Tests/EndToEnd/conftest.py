# SPDX-License-Identifier: Apache-2.0
# Copyright the epp-pd authors

import pytest
import rig
from rig import HOST, Envoy, Picker
from upstream import MODEL, Upstream


def fleet_of(ports, role="both", **more) -> dict:
    """One entry per port, equal but for the name."""
    common = {"role": role, "accelerator": "h100-sxm", "model": "llama-3.1-8b", "servedModels": [MODEL]} | more
    return {"endpoints": [{"name": f"{role}-{p}", "address": HOST, "port": p} | common for p in ports]}


class Gateway:
    """Envoy, the picker and scripted model servers, and what must hold after every exchange."""

    def __init__(self, folder, template="full-duplex", pods=3, flags=(), variants=None, edit=None, fleet=None, host=HOST):
        self.folder = folder
        self.upstream = Upstream(pods, host=host)
        self.picker = Picker(folder, fleet(self.upstream.ports) if fleet else fleet_of(self.upstream.ports), *flags)

        def change(config):
            rig.for_tests(config)
            if edit:
                edit(config)

        self.envoy = Envoy(folder, template, self.picker.port, self.upstream.ports, change, variants)
        self.port = self.envoy.port
        # On a busy machine Envoy's first health check of the picker may time out: until the next one all would be refused.
        healthy = "membership_healthy"
        self.envoy.process.ready(lambda: self.envoy.stats(f"cluster.epp.{healthy}").get(healthy, 1) == 1)

    def stop(self):
        self.envoy.stop()
        self.picker.process.kill()
        self.upstream.stop()

    def complaints(self) -> dict[str, int]:
        """Envoy's counters of what a picker does wrong."""
        stats = self.envoy.stats()
        names = ("spurious_msgs_received", "streams_failed", "rejected_header_mutations", "failure_mode_allowed")
        return {name: stats.get(name, 0) for name in names}

    def assert_clean(self, complaints_before=None):
        """The picker did nothing that Envoy complains of, and its ledger is back at zero."""
        before = complaints_before or dict.fromkeys(self.complaints(), 0)
        assert self.complaints() == before
        self.picker.process.check()
        self.picker.wait_idle()


TEMPLATES = {"original_dst": "full-duplex", "override_host": "override-host"}


@pytest.fixture(scope="module", params=TEMPLATES)
def any_gateway(request, tmp_path_factory):
    """A gateway of each kind of cluster, shared by a module's tests; checked after each of them."""
    gateway = Gateway(tmp_path_factory.mktemp(request.param), TEMPLATES[request.param])
    yield gateway
    gateway.stop()


@pytest.fixture
def gateway(any_gateway):
    before = any_gateway.complaints()
    any_gateway.upstream.received.clear()
    yield any_gateway
    any_gateway.assert_clean(before)
