// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

/// Writes the Prometheus text format: a head for each family, then its series.
struct Exposition {
    private(set) var text = ""

    mutating func begin(_ family: MetricFamily) {
        text += "# HELP \(family.name) \(family.help)\n# TYPE \(family.name) \(family.kind.rawValue)\n"
    }

    mutating func sample(_ family: MetricFamily, _ labels: [String] = [], _ value: Double) {
        line(family.name, family.labels, labels, Self.number(value))
    }

    mutating func sample(_ family: MetricFamily, _ labels: [String] = [], _ value: UInt64) {
        line(family.name, family.labels, labels, "\(value)")
    }

    mutating func sample(_ family: MetricFamily, _ labels: [String] = [], _ value: Int) {
        line(family.name, family.labels, labels, "\(value)")
    }

    /// Cumulative buckets, sum and count.
    mutating func histogram(_ family: MetricFamily, _ labels: [String] = [], _ cells: HistogramCells) {
        var below: UInt64 = 0
        for (index, count) in cells.counts.enumerated() {
            below &+= count
            let bound = index < cells.bounds.count ? Self.number(cells.bounds[index]) : "+Inf"
            line(family.name + "_bucket", family.labels + ["le"], labels + [bound], "\(below)")
        }
        line(family.name + "_sum", family.labels, labels, Self.number(cells.sum))
        line(family.name + "_count", family.labels, labels, "\(below)")
    }

    private mutating func line(_ name: String, _ labelNames: [String], _ labels: [String], _ value: String) {
        text += name
        if !labels.isEmpty {
            text += "{"
            for (index, (label, content)) in zip(labelNames, labels).enumerated() {
                if index > 0 { text += "," }
                text += "\(label)=\"\(Self.escaped(content))\""
            }
            text += "}"
        }
        text += " \(value)\n"
    }

    /// Whole numbers without a point.
    static func number(_ value: Double) -> String {
        if value.isFinite, value == value.rounded(), abs(value) < 1e15 { return "\(Int64(value))" }
        if value.isNaN { return "NaN" }
        if value.isInfinite { return value < 0 ? "-Inf" : "+Inf" }
        return "\(value)"
    }

    private static func escaped(_ text: String) -> String {
        guard text.utf8.contains(where: { $0 == 0x22 || $0 == 0x5C || $0 == 0x0A }) else { return text }
        var result = ""
        for scalar in text.unicodeScalars {
            switch scalar {
            case "\"": result += "\\\""
            case "\\": result += "\\\\"
            case "\n": result += "\\n"
            default: result.unicodeScalars.append(scalar)
            }
        }
        return result
    }
}
