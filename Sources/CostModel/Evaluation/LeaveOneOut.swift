// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

/// Judges the fallback ladder: takes fits away and predicts their configurations by what is left.
package struct LeaveOneOut: Sendable {
    /// What is taken away with a configuration, so that the next rung down must answer.
    package enum Removal: String, Sendable, Hashable, CaseIterable {
        case configuration
        case dtype
        case model
        case accelerator

        func takes(_ fit: FittedConfiguration, for judged: FittedConfiguration) -> Bool {
            guard fit.accelerator == judged.accelerator else { return false }
            switch self {
            case .configuration: return fit.label == judged.label
            case .dtype: return fit.model == judged.model && fit.dtype == judged.dtype
            case .model: return fit.model == judged.model
            case .accelerator: return true
            }
        }
    }

    package struct Row: Sendable, Hashable {
        package var removal: Removal
        package var source: ProfileSource
        package var phase: StepTime.Phase
        package var configurations: Int
        package var errors: ErrorStatistics
    }

    /// Judges every fit that has known step times, given by the label of their configuration. Each removal gives rows of
    /// its own.
    package static func judge(
        _ catalog: ProfileCatalog,
        _ times: [String: [StepTime]],
        removals: [Removal] = Removal.allCases
    ) -> [Row] {
        var rows: [Row] = []
        for removal in removals {
            for fit in catalog.fits where fit.derivedFrom == nil {
                guard let known = times[fit.label] else { continue }
                var rest = catalog.without { removal.takes($0, for: fit) }
                if removal == .accelerator { rest = rest.withoutEfficiency(of: fit.accelerator) }
                let profile = rest.profile(
                    accelerator: fit.accelerator,
                    model: fit.model,
                    tensorParallel: fit.tensorParallel,
                    dtype: fit.dtype.rawValue
                )
                for phase in StepTime.Phase.allCases {
                    var errors = ErrorStatistics()
                    for time in known where time.phase == phase {
                        let estimate = time.estimate(profile)
                        errors.add(
                            predicted: estimate.mean.rawValue,
                            measured: time.duration.rawValue,
                            band: estimate.error
                        )
                    }
                    guard errors.count > 0 else { continue }
                    if let at = rows.firstIndex(where: {
                        $0.removal == removal && $0.source == profile.source && $0.phase == phase
                    }) {
                        rows[at].errors.add(errors)
                        rows[at].configurations += 1
                    } else {
                        rows.append(
                            Row(
                                removal: removal,
                                source: profile.source,
                                phase: phase,
                                configurations: 1,
                                errors: errors
                            )
                        )
                    }
                }
            }
        }
        return rows
    }
}
