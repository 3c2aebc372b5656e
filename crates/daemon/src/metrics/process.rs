//! The process itself, as other programs' metrics call it. Absent where `/proc` is.

use std::fs;

use super::sheet::{Labels, Sheet};

/// Ticks of a second in `/proc`: the same on every Linux that we run on.
const TICKS: f64 = 100.0;

pub(super) fn gather(sheet: &mut Sheet) {
    let none = Labels::new();
    if let Some(stat) = stat() {
        let help = "User and system CPU time.";
        sheet.counter("process_cpu_seconds", help, Labels::new(), stat.ticks / TICKS);
        let started = boot().map(|boot| boot + stat.started / TICKS);
        sheet.gauge("process_start_time_seconds", "When the process was started.", &none, started);
        sheet.gauge("process_virtual_memory_bytes", "Address space.", &none, stat.virtual_bytes);
    }
    sheet.gauge("process_resident_memory_bytes", "Memory in use.", &none, resident());
    let open = fs::read_dir("/proc/self/fd").ok().map(|entries| entries.count() as f64);
    sheet.gauge("process_open_fds", "Open file descriptors.", &none, open);
    sheet.gauge("process_max_fds", "How many may be open.", &none, most_open());
}

struct Stat {
    ticks: f64,
    started: f64,
    virtual_bytes: f64,
}

fn stat() -> Option<Stat> {
    let text = fs::read_to_string("/proc/self/stat").ok()?;
    // The name in brackets may hold anything, brackets included.
    let fields: Vec<f64> =
        text.rsplit_once(')')?.1.split_whitespace().skip(1).map(|field| field.parse().unwrap_or_default()).collect();
    let field = |number: usize| fields.get(number - 4).copied(); // as proc(5) counts them
    Some(Stat { ticks: field(14)? + field(15)?, started: field(22)?, virtual_bytes: field(23)? })
}

fn boot() -> Option<f64> {
    let text = fs::read_to_string("/proc/stat").ok()?;
    text.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
}

fn resident() -> Option<f64> {
    let text = fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<f64>().ok()? * 1024.0)
}

fn most_open() -> Option<f64> {
    let text = fs::read_to_string("/proc/self/limits").ok()?;
    text.lines().find_map(|line| line.strip_prefix("Max open files"))?.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_process_is_this_one() {
        let stat = stat().unwrap();
        assert!(stat.virtual_bytes > 1e6 && resident().unwrap() > 1e6 && most_open().unwrap() >= 256.0);
        assert!(stat.virtual_bytes >= resident().unwrap());
        let uptime: f64 = fs::read_to_string("/proc/uptime").unwrap().split(' ').next().unwrap().parse().unwrap();
        assert!(stat.started / TICKS <= uptime + 1.0, "it began after the machine did");
        assert!(boot().unwrap() > 1e9);
    }
}
