//! Line charts as SVG. On a white ground of their own, so that they can be read on a light page and on a dark one.

use std::io;
use std::path::Path;

use plotters::prelude::*;

/// A chart, with a logarithmic x axis and a y axis from zero.
#[derive(Debug)]
pub(super) struct Chart {
    pub(super) title: String,
    /// What is on the axis, with its unit.
    pub(super) x: String,
    /// As `x`.
    pub(super) y: String,
    pub(super) lines: Vec<Line>,
}

/// One line of it.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) name: String,
    /// Ascending, and none is zero.
    pub(super) points: Vec<(f64, f64)>,
}

const SIZE: (u32, u32) = (800, 440);
/// Told apart by most who do not see all colours (Okabe and Ito).
const COLOURS: [RGBColor; 4] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
];

/// Draws a chart into a file. One without points is left out.
pub(super) fn draw(chart: &Chart, path: &Path) -> io::Result<()> {
    if chart.lines.iter().all(|line| line.points.is_empty()) {
        return Ok(());
    }
    // What can go wrong is the writing of the file.
    draw_points(chart, path)
        .map_err(|error| io::Error::other(format!("{}: {error}", path.display())))
}

fn draw_points(chart: &Chart, path: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let all = || chart.lines.iter().flat_map(|line| &line.points);
    let first = all().map(|point| point.0).fold(f64::INFINITY, f64::min);
    let last = all().map(|point| point.0).fold(first * 2.0, f64::max);
    let top = all().map(|point| point.1).fold(0.0, f64::max);
    let top = if top > 0.0 { top * 1.2 } else { 1.0 };

    let area = SVGBackend::new(path, SIZE).into_drawing_area();
    area.fill(&WHITE)?;
    let mut drawn = ChartBuilder::on(&area)
        .caption(&chart.title, ("sans-serif", 20))
        .margin(16)
        .x_label_area_size(48)
        .y_label_area_size(64)
        .build_cartesian_2d((first..last * 1.05).log_scale(), 0.0..top)?;
    drawn
        .configure_mesh()
        .x_desc(&chart.x)
        .y_desc(&chart.y)
        .axis_desc_style(("sans-serif", 15))
        .label_style(("sans-serif", 13))
        .light_line_style(TRANSPARENT)
        .bold_line_style(RGBColor(220, 220, 220))
        .x_label_formatter(&|value| thousands(*value))
        .y_label_formatter(&|value| number(*value))
        .draw()?;
    for (line, colour) in chart.lines.iter().zip(COLOURS.iter().cycle()) {
        let style = colour.stroke_width(2);
        drawn
            .draw_series(LineSeries::new(line.points.iter().copied(), style))?
            .label(&line.name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], style));
        let dots = line.points.iter();
        drawn.draw_series(dots.map(|point| Circle::new(*point, 4, colour.filled())))?;
        // The figures themselves, above the points.
        let figures = line.points.iter().map(|point| {
            let font = ("sans-serif", 12).into_font().color(colour);
            EmptyElement::at(*point) + Text::new(number(point.1), (-10, -18), font)
        });
        drawn.draw_series(figures)?;
    }
    drawn
        .configure_series_labels()
        .position(SeriesLabelPosition::LowerRight)
        .background_style(WHITE.mix(0.85))
        .border_style(RGBColor(200, 200, 200))
        .label_font(("sans-serif", 13))
        .draw()?;
    area.present()?;
    Ok(())
}

/// With as many digits as mean something.
fn number(value: f64) -> String {
    match value {
        value if value >= 100.0 => format!("{value:.0}"),
        value if value >= 10.0 => format!("{value:.1}"),
        value => format!("{value:.2}"),
    }
}

fn thousands(value: f64) -> String {
    let digits = format!("{:.0}", value.abs());
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_to_be_read() {
        assert_eq!(thousands(1_000_000.0), "1,000,000");
        assert_eq!(thousands(30.0), "30");
        assert_eq!(number(0.1234), "0.12");
        assert_eq!(number(12.34), "12.3");
        assert_eq!(number(1234.5), "1234");
    }
}
