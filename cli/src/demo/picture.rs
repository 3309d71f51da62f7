//! The picture: a line for each queue, coloured while the queue works.

use super::record::{Lane, Run};
use crate::error::Error;
use crate::file::Destination;
use crate::report::{many, print};
use plotters::coord::Shift;
use plotters::prelude::*;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

const WIDTH: u32 = 1100;
/// Height of a queue's line, and of the margins of one method.
const LANE: u32 = 14;
const FRAME: u32 = 120;
/// The least height of one method, so that its labels can be read.
const LEAST: u32 = 56;
/// Sizes of letters. By default, plotters derives them from the height of a picture.
const LABEL: u32 = 15;
const DESCRIPTION: u32 = 16;
const BUSY: RGBColor = RGBColor(46, 139, 87);
const STALL: RGBColor = RGBColor(200, 30, 30);
const IDLE: RGBColor = RGBColor(255, 224, 216);

/// The file name that means standard output.
pub const STDOUT: &str = "-";

/// The destination of the picture. An unwritable destination is reported before the run. An old
/// file stays until the new picture is complete.
pub struct Canvas {
    /// The path as given.
    path: PathBuf,
    /// Where it leads; none for standard output.
    file: Option<Destination>,
}

impl Canvas {
    /// Checks that a picture can be written. Leaves no file there until [`Canvas::draw`], so that
    /// no file remains if the program is killed.
    ///
    /// # Errors
    ///
    /// The error of the system.
    pub fn prepare(path: &Path) -> Result<Self, Error> {
        let file = match path == Path::new(STDOUT) {
            true => None,
            false => Some(Destination::of(path).map_err(|error| refused(path, &error))?),
        };
        Ok(Self { path: path.to_owned(), file })
    }

    /// Draws every run below the other, with one scale of time.
    ///
    /// # Errors
    ///
    /// If it cannot be drawn or written.
    pub fn draw(self, runs: &[(Run, Vec<Lane>)]) -> Result<(), Error> {
        let drawn = drawn(runs)
            .map_err(|error| Error::plain(format!("the picture cannot be drawn: {error}")))?;
        match self.file {
            None => print(&drawn),
            Some(file) => file.write(drawn.as_bytes()).map_err(|error| refused(&self.path, &error)),
        }
    }
}

fn refused(path: &Path, error: &io::Error) -> Error {
    let error = error.to_string();
    // A temporary file appends its own name to the system's error, which has no meaning for the
    // user.
    let error = error.split(" at path ").next().unwrap_or_default();
    let what = format!("cannot write {}: {error}", path.display());
    Error::new(what, "--picture FILE names another place")
}

fn drawn(runs: &[(Run, Vec<Lane>)]) -> Result<String, Box<dyn std::error::Error>> {
    let ends = runs.iter().flat_map(|(_, lanes)| lanes).filter_map(|lane| lane.busy.last());
    let end = ends.map(|(_, end)| *end).max().unwrap_or_default();
    let mut drawn = String::new();
    let heights: Vec<u32> = runs.iter().map(|(run, _)| height(run)).collect();
    {
        let area = SVGBackend::with_string(&mut drawn, (WIDTH, heights.iter().sum()));
        let mut rest = area.into_drawing_area();
        rest.fill(&WHITE)?;
        for ((run, lanes), height) in runs.iter().zip(heights) {
            let (panel, below) = rest.split_vertically(height);
            draw_run(&panel, run, lanes, end)?;
            rest = below;
        }
        rest.present()?;
    }
    Ok(drawn)
}

/// Labels the axis at whole numbers only: there is no queue 0.5.
fn whole(queue: f64) -> String {
    if (queue - queue.round()).abs() < 0.01 { format!("{queue:.0}") } else { String::new() }
}

fn height(run: &Run) -> u32 {
    FRAME + (LANE * u32::from(run.queues)).max(LEAST)
}

type Drawn = Result<(), Box<dyn std::error::Error>>;

fn draw_run(
    panel: &DrawingArea<SVGBackend<'_>, Shift>,
    run: &Run,
    lanes: &[Lane],
    end: Duration,
) -> Drawn {
    let lost = match run.lost {
        0 => "no interrupt lost".to_owned(),
        lost => format!("{} lost", many(lost, "interrupt")),
    };
    let title =
        format!("{}: {lost} of {}, {}", run.method.name(), run.raised, many(run.stalls, "stall"));
    let top = f64::from(run.queues) + 0.5;
    let mut chart = ChartBuilder::on(panel)
        .caption(title, ("sans-serif", 20))
        .margin(12)
        .x_label_area_size(42)
        .y_label_area_size(48)
        .build_cartesian_2d(0.0..end.as_secs_f64(), 0.5..top)?;
    chart
        .configure_mesh()
        .disable_mesh()
        .x_desc("seconds; green: completions arrive, pale: the queue waits, red: it waited in vain")
        .y_desc("queue")
        .label_style(("sans-serif", LABEL))
        .axis_desc_style(("sans-serif", DESCRIPTION))
        .y_labels(usize::from(run.queues).clamp(2, 20))
        .y_label_formatter(&|queue| whole(*queue))
        .draw()?;
    let thinnest = end.as_secs_f64() / f64::from(WIDTH);
    let bar = |lane: f64, (from, to): (Duration, Duration), thinnest: f64, colour: RGBColor| {
        let (from, to) = (from.as_secs_f64(), to.as_secs_f64());
        let corners = [(from, lane - 0.35), (to.max(from + thinnest), lane + 0.35)];
        Rectangle::new(corners, colour.filled())
    };
    for (number, lane) in (1_u32..).zip(lanes) {
        let number = f64::from(number);
        let last = lane.busy.last().map_or(lane.since, |(_, end)| *end);
        let pale = bar(number, (lane.since, last), thinnest, IDLE);
        let green = lane.busy.iter().map(|span| bar(number, *span, thinnest, BUSY));
        // Above the green line, and wide enough to be visible: the mark ends where the wait ended.
        let wide = Duration::from_secs_f64(4.0 * thinnest);
        let red = lane.stalls.iter();
        let red = red.map(|at| bar(number, (at.saturating_sub(wide), *at), thinnest, STALL));
        chart.draw_series(std::iter::once(pale).chain(green).chain(red))?;
    }
    Ok(())
}
