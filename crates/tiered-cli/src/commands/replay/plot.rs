//! The plot of a replay: hit ratio by capacity, a line for each tier.

use std::error::Error;
use std::path::Path;

use plotters::prelude::{
    ChartBuilder, Circle, IntoDrawingArea as _, IntoLogRange as _, LineSeries, Palette as _, Palette99,
    PathElement, SVGBackend, WHITE,
};
use plotters::style::{BLACK, Color as _};
use tiered::adapter::url::format_bytes;

use super::Row;

const SIZE: (u32, u32) = (840, 520);

/// Draws the rows into an SVG file.
pub(super) fn draw(path: &Path, rows: &[Row]) -> Result<(), Box<dyn Error>> {
    let root = SVGBackend::new(path, SIZE).into_drawing_area();
    root.fill(&WHITE)?;
    let least = rows.iter().map(|row| row.capacity).min().unwrap_or(1);
    let most = rows.iter().map(|row| row.capacity).max().unwrap_or(1).max(least + 1);
    let mut chart = ChartBuilder::on(&root)
        .caption("hit ratio by capacity", ("sans-serif", 20))
        .margin(16)
        .x_label_area_size(40)
        .y_label_area_size(56)
        .build_cartesian_2d((least..most).log_scale(), 0.0..100.0)?;
    chart
        .configure_mesh()
        .x_desc("capacity")
        .y_desc("hits, %")
        .x_label_formatter(&|bytes| format_bytes(*bytes))
        .draw()?;
    let mut tiers: Vec<&str> = rows.iter().map(|row| row.tier.as_str()).collect();
    tiers.dedup();
    for (index, tier) in tiers.into_iter().enumerate() {
        let color = Palette99::pick(index).stroke_width(2);
        let points: Vec<_> =
            rows.iter().filter(|row| row.tier == tier).map(|row| (row.capacity, row.hit_ratio)).collect();
        chart
            .draw_series(LineSeries::new(points.iter().copied(), color))?
            .label(tier)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], color));
        chart.draw_series(points.into_iter().map(|point| Circle::new(point, 3, color.filled())))?;
    }
    chart.configure_series_labels().background_style(WHITE).border_style(BLACK).draw()?;
    root.present()?;
    Ok(())
}
