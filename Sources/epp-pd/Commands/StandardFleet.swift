// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

/// The fleet of `simulate` where none is named: that of the project's results (docs/results/simulation.md). A test holds
/// it equal to its file in deploy/examples/fleets.
enum StandardFleet {
    static let name = "mixed-70b-5p4d.yaml"

    static let text = """
        endpoints:
          - {name: p-h100, role: prefill, accelerator: h100-sxm, model: llama-3.1-70b, tensorParallel: 4, dtype: fp8, count: 2}
          - {name: p-h200, role: prefill, accelerator: h200-sxm, model: llama-3.1-70b, tensorParallel: 2, dtype: fp8, count: 2}
          - {name: p-a100, role: prefill, accelerator: a100-sxm, model: llama-3.1-70b, tensorParallel: 8, dtype: bfloat16}
          - {name: d-h200, role: decode, accelerator: h200-sxm, model: llama-3.1-70b, tensorParallel: 2, dtype: fp8, count: 2}
          - {name: d-h100, role: decode, accelerator: h100-sxm, model: llama-3.1-70b, tensorParallel: 4, dtype: fp8}
          - {name: d-a100, role: decode, accelerator: a100-sxm, model: llama-3.1-70b, tensorParallel: 8, dtype: bfloat16}
        """
}
