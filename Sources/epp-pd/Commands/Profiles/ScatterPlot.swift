// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import Foundation

/// Predicted against measured on two logarithmic axes, as SVG.
struct ScatterPlot {
    struct Series {
        var name: String
        var colour: String
        /// Predicted and measured, the same unit, above zero.
        var points: [(predicted: Double, measured: Double)]
    }

    var title: String
    var unit: String
    var series: [Series]

    private static let size = 560.0
    private static let margin = 60.0
    /// More points hide each other and make files that nobody can diff.
    private static let mostPoints = 700

    func svg() -> String {
        let values = series.flatMap { $0.points.flatMap { [$0.predicted, $0.measured] } }.filter { $0 > 0 }
        guard let least = values.min(), let most = values.max() else { return "" }
        let (low, high) = (log10(least).rounded(.down), log10(most).rounded(.up))
        let (size, margin) = (Self.size, Self.margin)
        let span = max(high - low, 1)
        func x(_ value: Double) -> Double { margin + (log10(value) - low) / span * (size - 2 * margin) }
        func y(_ value: Double) -> Double { size - x(value) }
        func number(_ value: Double) -> String { Numbers.fixed(value, 1) }
        var out = """
            <svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 \(Int(size)) \(Int(size))" font-family="sans-serif" \
            font-size="12">
            <rect width="100%" height="100%" fill="white"/>
            <text x="\(Int(size / 2))" y="24" text-anchor="middle" font-size="15">\(title)</text>
            <text x="\(Int(size / 2))" y="\(Int(size) - 14)" text-anchor="middle">measured, \(unit)</text>
            <text x="16" y="\(Int(size / 2))" text-anchor="middle" transform="rotate(-90 16 \(Int(size / 2)))">predicted, \
            \(unit)</text>

            """
        for power in Int(low)...Int(high) {
            let at = pow(10, Double(power))
            let label = power < 0 ? Numbers.fixed(at, -power) : Numbers.fixed(at, 0)
            let (left, right) = (number(margin), number(size - margin))
            out += """
                <path d="M\(number(x(at))) \(left)V\(right)M\(left) \(number(y(at)))H\(right)" stroke="#ddd"/>
                <text x="\(number(x(at)))" y="\(number(size - margin + 16))" text-anchor="middle">\(label)</text>
                <text x="\(number(margin - 6))" y="\(number(y(at) + 4))" text-anchor="end">\(label)</text>

                """
        }
        let (first, last) = (pow(10, low), pow(10, high))
        for (factor, dash) in [(1.0, ""), (1.2, " stroke-dasharray=\"4 4\""), (1 / 1.2, " stroke-dasharray=\"4 4\"")] {
            let from = (x(max(first, first / factor)), y(max(first * factor, first)))
            let to = (x(min(last, last / factor)), y(min(last * factor, last)))
            out +=
                "<path d=\"M\(number(from.0)) \(number(from.1))L\(number(to.0)) \(number(to.1))\" stroke=\"#888\"\(dash)/>\n"
        }
        for (index, series) in series.enumerated() {
            let stride = max(series.points.count / Self.mostPoints, 1)
            var path = ""
            for at in Swift.stride(from: 0, to: series.points.count, by: stride) {
                let point = series.points[at]
                guard point.predicted > 0, point.measured > 0 else { continue }
                path += "M\(number(x(point.measured))) \(number(y(point.predicted)))h0"
            }
            out += """
                <path d="\(path)" stroke="\(series.colour)" stroke-width="4" stroke-linecap="round" stroke-opacity="0.45"/>
                <text x="\(number(margin + 12))" y="\(number(margin + 18 + Double(index) * 16))" \
                fill="\(series.colour)">\(series.name)</text>

                """
        }
        return out + "</svg>\n"
    }
}
