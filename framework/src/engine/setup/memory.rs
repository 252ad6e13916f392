//! Memory that a model needs in any case, before the system ends a process that asks for too much.

use sysinfo::{MemoryRefreshKind, ProcessRefreshKind, ProcessesToUpdate, RefreshKind, System};

use crate::engine::EngineError;
use crate::nn::device;

/// Refuses a model whose parameters alone, of which some may be frozen, do not fit into the memory of this
/// process.
///
/// # Errors
/// How much they need, and how much there is.
pub fn check(parameters: usize) -> Result<(), EngineError> {
    let needed = (parameters as u64).saturating_mul(size_of::<f32>() as u64);
    match limit() {
        Some((bytes, who)) if needed > bytes => Err(EngineError::Usage(format!(
            "not enough memory: {parameters} parameters take {}, gradients and moments as much again, {who} {}",
            gib(needed),
            gib(bytes),
        ))),
        _ => Ok(()),
    }
}

/// The memory that there is for this process where it computes, and the words for whose it is.
pub fn limit() -> Option<(u64, &'static str)> {
    if let Some(bytes) = device::memory() {
        return Some((bytes, "this card has"));
    }
    let limits = [("this process may use", address_space()), ("this machine has", Some(machine()))];
    limits.into_iter().filter_map(|(who, bytes)| Some((bytes.filter(|bytes| *bytes > 0)?, who))).min()
}

/// The memory that this process has now.
pub fn of_process() -> Option<u64> {
    let id = sysinfo::get_current_pid().ok()?;
    let mut system = System::new();
    let memory = ProcessRefreshKind::nothing().with_memory();
    system.refresh_processes_specifics(ProcessesToUpdate::Some(&[id]), false, memory);
    Some(system.process(id)?.memory())
}

/// Bytes in words, those of little memory too.
pub fn size(bytes: u64) -> String {
    if bytes < 1 << 30 { format!("{} MiB", bytes >> 20) } else { gib(bytes) }
}

fn gib(bytes: u64) -> String {
    format!("{:.1} GiB", bytes as f64 / f64::from(1_u32 << 30))
}

/// Memory and swap, of the control group if that has less.
fn machine() -> u64 {
    let memory = RefreshKind::nothing().with_memory(MemoryRefreshKind::everything());
    let system = System::new_with_specifics(memory);
    let of_group = system.cgroup_limits().map(|limits| limits.total_memory.saturating_add(limits.free_swap));
    let whole = system.total_memory().saturating_add(system.total_swap());
    of_group.map_or(whole, |group| group.min(whole))
}

/// The limit of the address space (`ulimit -v`), where the system tells of one.
fn address_space() -> Option<u64> {
    let limits = std::fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max address space"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn only_what_cannot_fit_is_refused() {
        assert!(check(1_000_000).is_ok());
        let message = check(1 << 45).unwrap_err().to_string();
        assert!(message.starts_with("not enough memory: 35184372088832 parameters"), "{message}");
        assert!(
            message.contains("take 131072.0 GiB, gradients and moments as much again, this machine has "),
            "{message}"
        );
    }
}
