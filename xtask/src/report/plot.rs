//! Plots, as SVG.

use plotters::prelude::*;

use crate::error::{Error, Result};

const SIZE: (u32, u32) = (900, 420);
const COLOURS: [RGBColor; 2] = [RGBColor(200, 90, 30), RGBColor(46, 139, 87)];

/// A line: its name and its points.
pub type Line = (String, Vec<(f64, f64)>);

/// Draws lines over a number of vectors, which doubles with each mark.
pub fn lines(title: &str, lines: &[Line]) -> Result<String> {
    if lines.iter().any(|(_, points)| points.is_empty()) {
        return Err(Error::other(format!("nothing was measured for a line of {title}")));
    }
    let all = || lines.iter().flat_map(|(_, points)| points);
    let left = all().fold(f64::MAX, |left, point| left.min(point.0));
    let right = all().fold(f64::MIN, |right, point| right.max(point.0));
    let high = all().fold(f64::MIN, |high, point| high.max(point.1));
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        let mut chart = ChartBuilder::on(&area)
            .caption(title, ("sans-serif", 18))
            .margin(12)
            .x_label_area_size(40)
            .y_label_area_size(80)
            .build_cartesian_2d((left..right).log_scale().base(2.0), 0.0..high * 1.1)
            .map_err(failed)?;
        chart
            .configure_mesh()
            .x_desc("active vectors")
            .x_labels(12)
            .light_line_style(TRANSPARENT)
            .y_desc("instructions")
            .x_label_formatter(&|x| format!("{x:.0}"))
            .y_label_formatter(&|y| format!("{y:.0}"))
            .label_style(("sans-serif", 14))
            .draw()
            .map_err(failed)?;
        for (nth, (name, points)) in lines.iter().enumerate() {
            let colour = COLOURS[nth % COLOURS.len()];
            let style = ShapeStyle { color: colour.to_rgba(), filled: true, stroke_width: 2 };
            chart
                .draw_series(LineSeries::new(points.iter().copied(), style))
                .map_err(failed)?
                .label(name)
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 20, y)], style));
            let dot = |&point: &(f64, f64)| Circle::new(point, 3, style);
            chart.draw_series(points.iter().map(dot)).map_err(failed)?;
        }
        chart
            .configure_series_labels()
            .background_style(WHITE)
            .border_style(BLACK.mix(0.3))
            .label_font(("sans-serif", 14))
            .draw()
            .map_err(failed)?;
        area.present().map_err(failed)?;
    }
    Ok(svg)
}

/// Draws for each name a bar: one value as a share of another, in percent.
pub fn shares(title: &str, bars: &[(String, f64)]) -> Result<String> {
    let rows = u32::try_from(bars.len()).unwrap_or(u32::MAX).min(100);
    let most = bars.iter().fold(100.0_f64, |most, (_, share)| most.max(*share));
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, (SIZE.0, 90 + 24 * rows)).into_drawing_area();
        let name = |at: &i32| usize::try_from(*at).ok().and_then(|at| bars.get(at));
        let count = i32::try_from(bars.len()).unwrap_or(i32::MAX);
        let mut chart = ChartBuilder::on(&area)
            .caption(title, ("sans-serif", 18))
            .margin(12)
            .x_label_area_size(28)
            .y_label_area_size(190)
            .build_cartesian_2d(0.0..most * 1.05, (0..count).into_segmented())
            .map_err(failed)?;
        chart
            .configure_mesh()
            .disable_y_mesh()
            .light_line_style(TRANSPARENT)
            .y_labels(bars.len())
            .x_label_formatter(&|x| format!("{x:.0} %"))
            .y_label_formatter(&|segment| match segment {
                SegmentValue::CenterOf(at) => name(at).map_or(String::new(), |bar| bar.0.clone()),
                _ => String::new(),
            })
            .label_style(("sans-serif", 14))
            .draw()
            .map_err(failed)?;
        let bar = |(at, (_, share)): (i32, &(String, f64))| {
            let mut bar = Rectangle::new(
                [(0.0, SegmentValue::Exact(at)), (*share, SegmentValue::Exact(at + 1))],
                COLOURS[1].filled(),
            );
            bar.set_margin(3, 3, 0, 0);
            bar
        };
        chart.draw_series((0..).zip(bars).map(bar)).map_err(failed)?;
        area.present().map_err(failed)?;
    }
    Ok(svg)
}

fn failed(error: impl std::fmt::Display) -> Error {
    Error::other(format!("a plot cannot be drawn: {error}"))
}

#[cfg(test)]
mod tests {
    use super::{lines, shares};

    #[test]
    fn plots_name_their_lines_and_bars() {
        let svg = lines("cost", &[("C".into(), vec![(1.0, 10.0), (2048.0, 20.0)])]).unwrap();
        assert!(svg.starts_with("<svg") && svg.contains("1024") && svg.contains("cost"), "{svg}");
        assert!(lines("cost", &[("C".into(), Vec::new())]).is_err());
        let svg = shares("share", &[("retarget".into(), 16.0), ("raise".into(), 101.0)]).unwrap();
        assert!(svg.contains("retarget") && svg.contains("raise"), "{svg}");
    }
}
