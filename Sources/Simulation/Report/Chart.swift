// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

#if canImport(Glibc)
    import Glibc
#else
    import Darwin
#endif

/// A plot as inline SVG: lines, or points with their names.
struct Chart {
    struct Series {
        var name: String
        /// Decides the colour, so that a name keeps its own from chart to chart.
        var index: Int
        var points: [(x: Double, y: Double)]
        /// What stands beside the points of a scatter; as many as points, or none.
        var labels: [String] = []
    }

    enum Scale { case linear, logarithmic }

    /// Of the file that holds it alone.
    var name = "plot"
    var title: String
    var xLabel: String
    var yLabel: String
    var xScale = Scale.linear
    var yScale = Scale.linear
    /// Points instead of lines.
    var isScatter = false
    /// Fixed ends of the y axis.
    var yRange: ClosedRange<Double>?
    var series: [Series]

    private static let (width, height) = (640.0, 360.0)
    private static let (left, right, top, bottom) = (64.0, 26.0, 34.0, 46.0)
    /// Ten hues that stay apart for most eyes, on light and dark ground (Tableau 10).
    private static let colours = [
        "#4e79a7", "#f28e2b", "#e15759", "#76b7b2", "#59a14f", "#edc948", "#b07aa1", "#ff9da7", "#9c755f", "#bab0ac",
    ]

    static func colour(_ index: Int) -> String { colours[index % colours.count] }

    /// The second ten are dashed.
    private static func dashes(_ index: Int) -> String {
        index % (2 * colours.count) < colours.count ? "" : " stroke-dasharray=\"6 4\""
    }

    /// Names and colours, as HTML.
    var legend: String {
        series.map { line in
            "<span><i style=\"background:\(Self.colour(line.index))\"></i>\(escaped(line.name))</span>"
        }.joined(separator: " ")
    }

    var svg: String {
        let points = series.flatMap(\.points).filter { $0.x.isFinite && $0.y.isFinite }
        guard !points.isEmpty else { return "" }
        let xs = axis(points.map(\.x), xScale, nil)
        let ys = axis(points.map(\.y), yScale, yRange)
        var body = frame(xs, ys)
        for line in series { body += draw(line, xs, ys) }
        let (width, height) = (number(Self.width), number(Self.height))
        return """
            <svg viewBox="0 0 \(width) \(height)" height="\(height)" role="img" aria-label="\(escaped(title))">
            <text class="title" x="\(number(Self.left))" y="20">\(escaped(title))</text>
            \(body)</svg>
            """
    }

    /// The same as a file of its own: with its style, and a legend below.
    var document: String {
        var legend = ""
        var (left, line) = (Self.left, 0)
        for (index, name) in series.map({ ($0.index, $0.name) }) {
            let width = 26 + 7 * Double(name.count)
            if left + width > Self.width, left > Self.left { (left, line) = (Self.left, line + 1) }
            let (at, top) = (number(left), Self.height + 4 + 18 * Double(line))
            let colour = Self.colour(index)
            legend += "<rect x=\"\(at)\" y=\"\(number(top))\" width=\"10\" height=\"10\" fill=\"\(colour)\"/>"
            legend += "<text x=\"\(number(left + 15))\" y=\"\(number(top + 9))\">\(escaped(name))</text>\n"
            left += width
        }
        let style =
            "text{font:12px system-ui,sans-serif;fill:#222}.title{font-weight:600;font-size:14px}"
            + ".tick{fill:#666;font-size:11px}.grid{stroke:#ddd}"
        let size = "\(number(Self.width)) \(number(Self.height + 24 + 18 * Double(line)))"
        return "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 \(size)\"><style>\(style)</style>"
            + "<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n\(svg)\n\(legend)</svg>\n"
    }

    // MARK: Axes

    private struct Axis {
        var low: Double
        var high: Double
        var scale: Scale
        var ticks: [Double]

        func share(_ value: Double) -> Double {
            switch scale {
            case .linear: (value - low) / (high - low)
            case .logarithmic: (log10(max(value, low)) - log10(low)) / (log10(high) - log10(low))
            }
        }
    }

    private func axis(_ values: [Double], _ scale: Scale, _ fixed: ClosedRange<Double>?) -> Axis {
        var low = fixed?.lowerBound ?? values.min() ?? 0
        var high = fixed?.upperBound ?? values.max() ?? 1
        guard scale == .linear else {
            low = pow(10, floor(log10(max(values.filter { $0 > 0 }.min() ?? 1, 1e-6))))
            high = max(pow(10, ceil(log10(max(high, low)))), low * 10)
            let decades = Int((log10(high) - log10(low)).rounded())
            return Axis(low: low, high: high, scale: scale, ticks: (0...decades).map { low * pow(10, Double($0)) })
        }
        if high - low < 1e-12 {
            low -= 0.5
            high += 0.5
        }
        let step = Self.niceStep((high - low) / 6)
        if fixed == nil {
            low = floor(low / step) * step
            high = ceil(high / step) * step
        }
        let count = Int(((high - low) / step).rounded(.down))
        return Axis(low: low, high: high, scale: scale, ticks: (0...max(count, 0)).map { low + Double($0) * step })
    }

    /// The least of 1, 2 and 5 times a power of ten that is not below `least`.
    private static func niceStep(_ least: Double) -> Double {
        let power = pow(10, floor(log10(least)))
        return [1.0, 2, 5, 10].map { $0 * power }.first { $0 >= least * 0.999 } ?? least
    }

    private func x(_ value: Double, _ axis: Axis) -> Double {
        Self.left + axis.share(value) * (Self.width - Self.left - Self.right)
    }

    private func y(_ value: Double, _ axis: Axis) -> Double {
        Self.height - Self.bottom - axis.share(value) * (Self.height - Self.top - Self.bottom)
    }

    private func frame(_ xs: Axis, _ ys: Axis) -> String {
        let (bottom, right) = (Self.height - Self.bottom, Self.width - Self.right)
        var text = ""
        for tick in xs.ticks {
            let at = number(x(tick, xs))
            text +=
                "<line class=\"grid\" x1=\"\(at)\" x2=\"\(at)\" y1=\"\(number(Self.top))\" y2=\"\(number(bottom))\"/>"
            text +=
                "<text class=\"tick\" text-anchor=\"middle\" x=\"\(at)\" y=\"\(number(bottom + 16))\">\(label(tick))</text>\n"
        }
        for tick in ys.ticks {
            let at = number(y(tick, ys))
            text +=
                "<line class=\"grid\" x1=\"\(number(Self.left))\" x2=\"\(number(right))\" y1=\"\(at)\" y2=\"\(at)\"/>"
            text +=
                "<text class=\"tick\" text-anchor=\"end\" x=\"\(number(Self.left - 6))\" y=\"\(number(y(tick, ys) + 4))\">"
            text += "\(label(tick))</text>\n"
        }
        let middle = number((Self.left + right) / 2)
        text += "<text class=\"axis\" text-anchor=\"middle\" x=\"\(middle)\" y=\"\(number(Self.height - 8))\">"
        text += "\(escaped(xLabel))</text>\n"
        let centre = number((Self.top + bottom) / 2)
        text += "<text class=\"axis\" text-anchor=\"middle\" transform=\"translate(14 \(centre)) rotate(-90)\">"
        return text + "\(escaped(yLabel))</text>\n"
    }

    private func draw(_ line: Series, _ xs: Axis, _ ys: Axis) -> String {
        let (name, colour) = (escaped(line.name), Self.colour(line.index))
        let isLabelled = line.labels.count == line.points.count
        let places = line.points.enumerated().filter { $1.x.isFinite && $1.y.isFinite }.map { index, point in
            (x: number(x(point.x, xs)), y: number(y(point.y, ys)), label: isLabelled ? escaped(line.labels[index]) : "")
        }
        guard isScatter else {
            let path = places.map { "\($0.x),\($0.y)" }.joined(separator: " ")
            let stroke = "stroke=\"\(colour)\" stroke-width=\"2\"\(Self.dashes(line.index))"
            return "<polyline fill=\"none\" \(stroke) points=\"\(path)\"><title>\(name)</title></polyline>\n"
        }
        return places.map { place in
            let title = "<title>\(name)\(place.label.isEmpty ? "" : ", load \(place.label)")</title>"
            return "<circle cx=\"\(place.x)\" cy=\"\(place.y)\" r=\"5\" fill=\"\(colour)\">\(title)</circle>"
                + "<text class=\"tick\" x=\"\(place.x)\" y=\"\(place.y)\" dx=\"7\" dy=\"4\">\(place.label)</text>\n"
        }.joined()
    }

    // MARK: Text

    private func number(_ value: Double) -> String { "\((value * 100).rounded() / 100)" }

    private func label(_ value: Double) -> String {
        if value == value.rounded(), abs(value) < 1e6 { return "\(Int(value))" }
        return "\((value * 1e4).rounded() / 1e4)"
    }
}

/// Text within HTML and SVG.
func escaped(_ text: String) -> String {
    var result = ""
    for character in text {
        switch character {
        case "&": result += "&amp;"
        case "<": result += "&lt;"
        case ">": result += "&gt;"
        case "\"": result += "&quot;"
        default: result.append(character)
        }
    }
    return result
}
