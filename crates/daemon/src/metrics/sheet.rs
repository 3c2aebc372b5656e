//! Everything that one scrape shows, and its two forms: OpenMetrics, and the older text that some programs still ask for.

use std::collections::HashMap;

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, text},
    metrics::{MetricType, exemplar::Exemplar},
    registry::Registry,
};

/// Names and values.
pub(super) type Labels = Vec<(&'static str, String)>;

/// What one scrape shows.
#[derive(Debug, Default)]
pub(super) struct Sheet(Vec<Family>);

#[derive(Debug)]
struct Family {
    /// Without `_total`.
    name: &'static str,
    help: &'static str,
    kind: MetricType,
    samples: Vec<(Labels, Value)>,
}

#[derive(Debug)]
enum Value {
    Gauge(f64),
    Counter(f64),
    Histogram { sum: f64, count: u64, buckets: Vec<(f64, u64)> },
}

impl Sheet {
    /// Something that goes up and down. What is not known is left out: it is not 0.
    pub(super) fn gauge(
        &mut self,
        name: &'static str,
        help: &'static str,
        labels: &Labels,
        value: impl Into<Option<f64>>,
    ) {
        if let Some(value) = value.into() {
            self.put(name, help, MetricType::Gauge, labels.clone(), Value::Gauge(value));
        }
    }

    /// Something that only grows; `name` without `_total`.
    pub(super) fn counter(&mut self, name: &'static str, help: &'static str, labels: Labels, value: f64) {
        self.put(name, help, MetricType::Counter, labels, Value::Counter(value));
    }

    /// How things are spread: upper ends with what lies between them and the ones before.
    pub(super) fn histogram(
        &mut self,
        name: &'static str,
        help: &'static str,
        labels: Labels,
        sum: f64,
        buckets: Vec<(f64, u64)>,
    ) {
        let count = buckets.iter().map(|(_, count)| count).sum();
        self.put(name, help, MetricType::Histogram, labels, Value::Histogram { sum, count, buckets });
    }

    fn put(&mut self, name: &'static str, help: &'static str, kind: MetricType, labels: Labels, value: Value) {
        match self.0.iter_mut().find(|family| family.name == name) {
            Some(family) => family.samples.push((labels, value)),
            None => self.0.push(Family { name, help, kind, samples: vec![(labels, value)] }),
        }
    }

    /// As OpenMetrics.
    pub(super) fn open_metrics(self) -> Result<String, std::fmt::Error> {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(self));
        let mut text = String::new();
        text::encode(&mut text, &registry)?;
        Ok(text)
    }

    /// As Prometheus' own text, version 0.0.4: there a counter is called as its samples are.
    pub(super) fn plain(self) -> Result<String, std::fmt::Error> {
        let counters: Vec<_> = self.0.iter().filter(|family| matches!(family.kind, MetricType::Counter)).collect();
        let counters: Vec<_> = counters.into_iter().map(|family| family.name).collect();
        let mut plain = String::new();
        for line in self.open_metrics()?.lines().filter(|line| *line != "# EOF") {
            let mut words = line.splitn(4, ' ');
            match (words.next(), words.next(), words.next(), words.next()) {
                (Some("#"), Some(what), Some(name), Some(rest)) if counters.contains(&name) => {
                    plain.push_str(&format!("# {what} {name}_total {rest}\n"));
                }
                _ => {
                    plain.push_str(line);
                    plain.push('\n');
                }
            }
        }
        Ok(plain)
    }
}

impl Collector for Sheet {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), std::fmt::Error> {
        for family in &self.0 {
            let mut metric = encoder.encode_descriptor(family.name, family.help, None, family.kind)?;
            for (labels, value) in &family.samples {
                let mut sample = metric.encode_family(labels)?;
                match value {
                    Value::Gauge(value) => sample.encode_gauge(value)?,
                    Value::Counter(value) => sample.encode_counter(value, None::<&Exemplar<Labels, f64>>)?,
                    Value::Histogram { sum, count, buckets } => {
                        sample.encode_histogram(
                            *sum,
                            *count,
                            buckets,
                            None::<&HashMap<usize, Exemplar<Labels, f64>>>,
                        )?;
                    }
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sheet() -> Sheet {
        let mut sheet = Sheet::default();
        let labels = vec![("tenant", "ac\"me\n\\".to_owned())];
        sheet.gauge("lifeboat_points", "Recovery points.", &labels, 3.0);
        sheet.gauge("lifeboat_rto_seconds", "Never measured.", &labels, None);
        sheet.counter("lifeboat_runs", "Runs.", labels.clone(), 7.0);
        sheet.histogram(
            "lifeboat_run_duration_seconds",
            "How long.",
            labels,
            12.5,
            vec![(10.0, 1), (f64::INFINITY, 2)],
        );
        sheet
    }

    #[test]
    fn what_is_not_known_is_not_there() {
        assert!(!sheet().open_metrics().unwrap().contains("rto"));
    }

    #[test]
    fn both_forms_say_the_same() {
        let open = sheet().open_metrics().unwrap();
        let tenant = "{tenant=\"ac\\\"me\\n\\\\\"";
        for line in [
            "# TYPE lifeboat_points gauge\n".to_owned(),
            format!("lifeboat_points{tenant}}} 3.0\n"),
            "# TYPE lifeboat_runs counter\n".to_owned(),
            format!("lifeboat_runs_total{tenant}}} 7.0\n"),
            format!("lifeboat_run_duration_seconds_sum{tenant}}} 12.5\n"),
            format!("lifeboat_run_duration_seconds_count{tenant}}} 3\n"),
            format!("lifeboat_run_duration_seconds_bucket{{le=\"10.0\",{}}} 1\n", &tenant[1..]),
            format!("lifeboat_run_duration_seconds_bucket{{le=\"+Inf\",{}}} 3\n", &tenant[1..]),
        ] {
            assert!(open.contains(&line), "{line} in\n{open}");
        }
        assert!(open.ends_with("# EOF\n"));
        let plain = sheet().plain().unwrap();
        assert!(plain.contains("# HELP lifeboat_runs_total Runs.\n# TYPE lifeboat_runs_total counter\n"), "{plain}");
        assert!(!plain.contains("# EOF"));
    }
}
