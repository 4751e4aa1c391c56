//! Results of a scenario: figures beside their limits and beside the peers, as a table or as JSON.
//!
//! A figure is judged by its median over the runs. A scenario with a fault (a target that is not
//! done, a disk that differs from a local restore) has failed, whatever its figures are.

use serde_json::{Value, json};

/// One number of a scenario, over all runs.
struct Figure {
    name: &'static str,
    ours: Vec<f64>,
    limit: Option<f64>,
    peers: Vec<(&'static str, Vec<f64>)>,
}

/// A scenario's figures and faults.
pub(crate) struct Report {
    scenario: &'static str,
    setting: String,
    figures: Vec<Figure>,
    faults: Vec<String>,
    notes: Vec<String>,
}

impl Report {
    pub(crate) fn new(scenario: &'static str, setting: String) -> Self {
        Self {
            scenario,
            setting,
            figures: Vec::new(),
            faults: Vec::new(),
            notes: Vec::new(),
        }
    }

    fn figure(&mut self, name: &'static str) -> &mut Figure {
        let at = self
            .figures
            .iter()
            .position(|figure| figure.name == name)
            .unwrap_or_else(|| {
                self.figures.push(Figure {
                    name,
                    ours: Vec::new(),
                    limit: None,
                    peers: Vec::new(),
                });
                self.figures.len() - 1
            });
        &mut self.figures[at]
    }

    /// Adds a value of ours without a limit.
    pub(crate) fn ours(&mut self, name: &'static str, value: f64) {
        self.figure(name).ours.push(value);
    }

    /// Adds a value of ours that must be at most `limit`.
    pub(crate) fn limited(&mut self, name: &'static str, value: f64, limit: f64) {
        let figure = self.figure(name);
        figure.ours.push(value);
        figure.limit = Some(limit);
    }

    /// Adds the same value of a peer.
    pub(crate) fn peer(&mut self, name: &'static str, peer: &'static str, value: f64) {
        let peers = &mut self.figure(name).peers;
        match peers.iter_mut().find(|(known, _)| *known == peer) {
            Some((_, values)) => values.push(value),
            None => peers.push((peer, vec![value])),
        }
    }

    /// Adds a fault, which makes every figure of this scenario worthless.
    pub(crate) fn fault(&mut self, text: impl Into<String>) {
        self.faults.push(text.into());
    }

    /// Adds a note for readers of the figures, for example that a peer hung.
    pub(crate) fn note(&mut self, text: impl Into<String>) {
        self.notes.push(text.into());
    }

    pub(crate) fn passed(&self) -> bool {
        self.faults.is_empty() && self.figures.iter().all(|figure| figure.verdict() != MISSED)
    }

    /// The report as a part of a markdown page.
    pub(crate) fn table(&self) -> String {
        let mut text = format!(
            "### {} ({})\n\n| figure | diskcast | limit | | peers |\n|---|---|---|---|---|\n",
            self.scenario, self.setting
        );
        for figure in &self.figures {
            let peers: Vec<String> = figure
                .peers
                .iter()
                .map(|(peer, values)| format!("{peer} {}", spread(values)))
                .collect();
            text.push_str(&format!(
                "| {} | {} | {} | {} | {} |\n",
                figure.name,
                spread(&figure.ours),
                figure.limit.map(number).unwrap_or_default(),
                figure.verdict(),
                peers.join(", ")
            ));
        }
        for fault in &self.faults {
            text.push_str(&format!("\nFAILED: {fault}\n"));
        }
        for note in &self.notes {
            text.push_str(&format!("\n{note}\n"));
        }
        text
    }

    pub(crate) fn json(&self) -> Value {
        let figures: Vec<Value> = self
            .figures
            .iter()
            .map(|figure| {
                let peers: serde_json::Map<String, Value> = figure
                    .peers
                    .iter()
                    .map(|(peer, values)| ((*peer).to_owned(), json!(values)))
                    .collect();
                json!({
                    "name": figure.name,
                    "values": figure.ours,
                    "median": (!figure.ours.is_empty()).then(|| median(&figure.ours)),
                    "limit": figure.limit,
                    "ok": figure.verdict() != MISSED,
                    "peers": peers,
                })
            })
            .collect();
        json!({
            "scenario": self.scenario,
            "setting": self.setting,
            "ok": self.passed(),
            "figures": figures,
            "faults": self.faults,
            "notes": self.notes,
        })
    }
}

const MISSED: &str = "**MISSED**";

impl Figure {
    fn verdict(&self) -> &'static str {
        match self.limit {
            None => "",
            Some(_) if self.ours.is_empty() => MISSED,
            Some(limit) if median(&self.ours) <= limit => "ok",
            Some(_) => MISSED,
        }
    }
}

/// The middle value, or the mean of the two in the middle.
pub(crate) fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => values[middle],
        _ => f64::midpoint(values[middle - 1], values[middle]),
    }
}

/// Median and range as text.
fn spread(values: &[f64]) -> String {
    match values {
        [] => String::new(),
        [one] => number(*one),
        _ => format!(
            "{} ({}-{})",
            number(median(values)),
            number(values.iter().copied().fold(f64::INFINITY, f64::min)),
            number(values.iter().copied().fold(f64::NEG_INFINITY, f64::max))
        ),
    }
}

fn number(value: f64) -> String {
    if value.abs() < 10.0 {
        format!("{value:.3}")
    } else {
        format!("{value:.1}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        assert!((median(&[3.0, 1.0, 2.0]) - 2.0).abs() < 1e-9);
        assert!((median(&[4.0, 1.0, 2.0, 3.0]) - 2.5).abs() < 1e-9);
    }

    #[test]
    fn a_median_over_its_limit_or_a_fault_fails_the_scenario() {
        let mut report = Report::new("one", "2 agents".into());
        for value in [1.0, 1.1, 9.0] {
            report.limited("ratio", value, 1.1);
        }
        report.peer("ratio", "other", 2.0);
        assert!(report.passed(), "{}", report.table());
        assert!(
            report
                .table()
                .contains("| ratio | 1.100 (1.000-9.000) | 1.100 | ok | other 2.000 |")
        );
        report.limited("ratio", 9.0, 1.1);
        assert!(!report.passed());

        let mut broken = Report::new("two", String::new());
        broken.ours("ratio", 1.0);
        assert!(broken.passed());
        broken.fault("a disk differs");
        assert!(!broken.passed());
        assert_eq!(broken.json()["faults"][0], "a disk differs");
    }
}
