//! The results as a picture: a chart for each panel, a series for each side.

use anyhow::{Result, anyhow};
use plotters::coord::Shift;
use plotters::prelude::*;

use super::{Group, Row, markdown};

const WIDTH: u32 = 960;
/// Height of one panel.
const HEIGHT: u32 = 300;
/// Above this ratio between the largest and the smallest figure an axis is logarithmic.
const LINEAR: f64 = 50.0;
/// How much of a case's room its bars take.
const FILLED: f64 = 0.86;

/// Colours that stay apart for readers who see few of them (Okabe and Ito), then lighter ones.
const COLOURS: [RGBColor; 12] = [
    RGBColor(0, 114, 178),
    RGBColor(230, 159, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(86, 180, 233),
    RGBColor(213, 94, 0),
    RGBColor(120, 120, 120),
    RGBColor(240, 228, 66),
    RGBColor(0, 0, 0),
    RGBColor(150, 200, 160),
    RGBColor(170, 140, 220),
    RGBColor(200, 180, 150),
];

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// The picture of a group; `None` without rows.
pub fn svg(group: &Group) -> Result<Option<String>> {
    let panels = markdown::panels(&group.rows);
    if panels.is_empty() {
        return Ok(None);
    }
    let mut picture = String::new();
    {
        let height = HEIGHT * u32::try_from(panels.len())?;
        let area = SVGBackend::with_string(&mut picture, (WIDTH, height)).into_drawing_area();
        let draw = || -> Result<(), Box<dyn std::error::Error>> {
            area.fill(&WHITE)?;
            for (area, panel) in area.split_evenly((panels.len(), 1)).iter().zip(&panels) {
                let rows: Vec<&Row> = group.rows.iter().filter(|row| row.panel == *panel).collect();
                chart(area, &format!("{}: {panel}", group.title), &Panel::of(&rows))?;
            }
            area.present()?;
            Ok(())
        };
        draw().map_err(|error| anyhow!("the plot of {}: {error}", group.title))?;
    }
    picture.push('\n');
    Ok(Some(picture))
}

/// What one chart shows.
struct Panel<'r> {
    rows: &'r [&'r Row],
    cases: Vec<&'r str>,
    sides: Vec<&'r str>,
    is_logarithmic: bool,
}

impl<'r> Panel<'r> {
    fn of(rows: &'r [&'r Row]) -> Self {
        let distinct = |of: fn(&Row) -> &str| {
            let mut seen: Vec<&str> = Vec::new();
            for &row in rows {
                if !seen.contains(&of(row)) {
                    seen.push(of(row));
                }
            }
            seen
        };
        let values = || rows.iter().map(|row| row.summary.median).filter(|value| *value > 0.0);
        let (least, most) = (values().fold(f64::INFINITY, f64::min), values().fold(0.0, f64::max));
        Self {
            rows,
            cases: distinct(|row| &row.case),
            sides: distinct(|row| &row.side),
            is_logarithmic: most / least > LINEAR,
        }
    }

    /// Where a figure stands on the axis.
    fn height(&self, value: f64) -> f64 {
        if self.is_logarithmic { value.max(f64::MIN_POSITIVE).log10() } else { value }
    }

    fn axis(&self) -> std::ops::Range<f64> {
        let tops = self.rows.iter().map(|row| self.height(row.summary.upper.max(row.summary.median)));
        let top = tops.fold(f64::NEG_INFINITY, f64::max);
        if !self.is_logarithmic {
            return 0.0..(top * 1.08).max(f64::MIN_POSITIVE);
        }
        let positive = self.rows.iter().map(|row| row.summary.median).filter(|value| *value > 0.0);
        let bottom = positive.fold(f64::INFINITY, f64::min).log10().floor();
        bottom..(top + 0.1).max(bottom + 1.0)
    }

    fn label(&self, height: f64) -> String {
        markdown::figure(if self.is_logarithmic { 10_f64.powf(height) } else { height })
    }
}

fn chart(area: &Area<'_>, title: &str, panel: &Panel<'_>) -> Result<(), Box<dyn std::error::Error>> {
    let axis = panel.axis();
    let unit = panel.rows.first().map_or("", |row| row.unit.as_str());
    let cases = panel.cases.len();
    let mut chart = ChartBuilder::on(area)
        .caption(title, ("sans-serif", 16))
        .margin(8)
        .margin_right(190)
        .x_label_area_size(28)
        .y_label_area_size(80)
        .build_cartesian_2d(-0.5..cases as f64 - 0.5, axis.clone())?;
    let name = |at: &f64| {
        let is_whole = (at - at.round()).abs() < 0.01 && *at > -0.1;
        let case = is_whole.then(|| panel.cases.get(at.round() as usize)).flatten();
        case.map_or_else(String::new, |case| (*case).to_owned())
    };
    chart
        .configure_mesh()
        .disable_x_mesh()
        .light_line_style(TRANSPARENT)
        .x_labels(cases * 2 + 1)
        .x_label_formatter(&name)
        .y_label_formatter(&|height| panel.label(*height))
        .y_desc(unit)
        .draw()?;
    let width = FILLED / panel.sides.len() as f64;
    for (index, side) in panel.sides.iter().enumerate() {
        let colour = COLOURS.get(index % COLOURS.len()).copied().unwrap_or(BLACK);
        let left = index as f64 * width - FILLED / 2.0;
        let rows = panel.rows.iter().filter(|row| row.side == *side);
        let bars = rows.clone().filter_map(|row| {
            let at = panel.cases.iter().position(|case| *case == row.case)? as f64 + left;
            let top = panel.height(row.summary.median).max(axis.start);
            Some(Rectangle::new([(at, axis.start), (at + width * 0.9, top)], colour.filled()))
        });
        chart.draw_series(bars)?;
        let whiskers = rows.filter_map(|row| {
            let at = panel.cases.iter().position(|case| *case == row.case)? as f64 + left + width * 0.45;
            let ends =
                [row.summary.lower, row.summary.upper].map(|end| (at, panel.height(end).max(axis.start)));
            Some(PathElement::new(ends.to_vec(), BLACK))
        });
        chart.draw_series(whiskers)?;
        legend(area, index, side, colour)?;
    }
    Ok(())
}

/// The entry of a side, right of its chart.
fn legend(
    area: &Area<'_>,
    index: usize,
    side: &str,
    colour: RGBColor,
) -> Result<(), Box<dyn std::error::Error>> {
    let (left, top) = (i32::try_from(WIDTH)? - 185, 40 + i32::try_from(index)? * 18);
    area.draw(&Rectangle::new([(left, top), (left + 10, top + 10)], colour.filled()))?;
    area.draw(&Text::new(side.to_owned(), (left + 16, top), ("sans-serif", 12)))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::Measured;
    use crate::report::Case;
    use crate::statistics::Summary;
    use crate::targets;

    #[test]
    fn a_picture_names_its_sides_and_cases() {
        let case = Case {
            panel: "sizes",
            name: "100 B",
            unit: "ns",
            more_is_better: false,
            reference: "moka",
            target: targets::HIT,
        };
        let side = |side: &str, value: f64| Measured {
            side: side.to_owned(),
            is_ours: false,
            summary: Summary::of(&[value]),
            percentiles: None,
        };
        let group = Group {
            title: "Hits".to_owned(),
            about: String::new(),
            command: String::new(),
            date: String::new(),
            quick: true,
            machine: crate::machine::Machine::default(),
            rows: case.rows(&[side("moka", 1.0), side("slow", 5000.0)]),
            overview: None,
            missing: Vec::new(),
            notes: Vec::new(),
        };
        let picture = svg(&group).expect("drawn").expect("has rows");
        for word in ["Hits: sizes", "100 B", "moka", "slow"] {
            assert!(picture.contains(word), "{word}");
        }
    }
}
