//! What the environment says of the processes that were started together: by `mpirun`, or by Slurm's `srun`.

use std::num::NonZeroUsize;
use std::str::FromStr as _;

use super::CommunicationError;

/// A process among those that were started together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Launch {
    /// Its number, from 0.
    pub rank: usize,
    /// How many there are.
    pub size: usize,
    /// Its number among those on the same machine.
    pub local_rank: usize,
    /// How many are on the same machine, where that is told.
    pub local_size: Option<usize>,
}

/// Names of variables, of what they tell: rank, size, rank and size on the machine.
struct Launcher {
    name: &'static str,
    rank: &'static str,
    size: &'static str,
    local_rank: &'static str,
    local_size: &'static str,
}

/// The nearest launcher first: `mpirun` within a job of Slurm.
const LAUNCHERS: [Launcher; 3] = [
    Launcher {
        name: "Open MPI",
        rank: "OMPI_COMM_WORLD_RANK",
        size: "OMPI_COMM_WORLD_SIZE",
        local_rank: "OMPI_COMM_WORLD_LOCAL_RANK",
        local_size: "OMPI_COMM_WORLD_LOCAL_SIZE",
    },
    Launcher {
        name: "MPICH",
        rank: "PMI_RANK",
        size: "PMI_SIZE",
        local_rank: "MPI_LOCALRANKID",
        local_size: "MPI_LOCALNRANKS",
    },
    Launcher {
        name: "Slurm",
        rank: "SLURM_PROCID",
        size: "SLURM_STEP_NUM_TASKS",
        local_rank: "SLURM_LOCALID",
        local_size: "SLURM_STEP_TASKS_PER_NODE",
    },
];

impl Launch {
    /// What this process was told. None of a process that was started by itself, or alone.
    ///
    /// # Errors
    /// What contradicts itself.
    pub fn of_environment() -> Result<Option<Self>, CommunicationError> {
        Self::told_by(|name| std::env::var(name).ok())
    }

    fn told_by(variable: impl Fn(&str) -> Option<String>) -> Result<Option<Self>, CommunicationError> {
        // A batch script of Slurm has a rank, but is no step; under `srun --mpi=pmi2` Slurm alone tells the place on the machine.
        let is_told = |launcher: &&Launcher| {
            [launcher.size, launcher.local_rank].iter().all(|name| variable(name).is_some())
        };
        let Some(launcher) = LAUNCHERS.iter().find(is_told) else { return Ok(None) };
        let number = |name: &str| {
            let text = variable(name).ok_or_else(|| refused(launcher, &format!("`{name}` is not set")))?;
            // Of several kinds of machines Slurm tells `2(x3),1`.
            let digits = text.split(['(', ',']).next().unwrap_or_default();
            usize::from_str(digits).map_err(|_| refused(launcher, &format!("`{name}` is `{text}`")))
        };
        let (rank, size) = (number(launcher.rank)?, number(launcher.size)?);
        if size <= 1 {
            return Ok(None);
        }
        if rank >= size {
            return Err(refused(launcher, &format!("it numbers a process {rank} of {size}")));
        }
        let local_rank = number(launcher.local_rank)?;
        let local_size = variable(launcher.local_size).map(|_| number(launcher.local_size)).transpose()?;
        Ok(Some(Self { rank, size, local_rank, local_size }))
    }

    /// How many threads a process computes with, on a machine of so many processors of which it may use `own`: its share, if nobody
    /// has given it one.
    pub fn threads(&self, processors: NonZeroUsize, own: NonZeroUsize) -> usize {
        match self.local_size {
            Some(local_size) if own == processors => (processors.get() / local_size).max(1),
            _ => own.get(),
        }
    }
}

fn refused(launcher: &Launcher, what: &str) -> CommunicationError {
    CommunicationError::Launch {
        message: format!("what {} says of this process makes no sense: {what}", launcher.name),
        help: "start the processes with `mpirun` or `srun`, and leave their variables as they are".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(variables: &[(&str, &str)]) -> Result<Option<Launch>, CommunicationError> {
        let find = |name: &str| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        };
        Launch::told_by(find)
    }

    #[test]
    fn launchers_tell_who_a_process_is() {
        let ours = Launch { rank: 3, size: 4, local_rank: 1, local_size: Some(2) };
        let ompi = [
            ("OMPI_COMM_WORLD_RANK", "3"),
            ("OMPI_COMM_WORLD_SIZE", "4"),
            ("OMPI_COMM_WORLD_LOCAL_RANK", "1"),
            ("OMPI_COMM_WORLD_LOCAL_SIZE", "2"),
        ];
        let slurm = [
            ("SLURM_PROCID", "3"),
            ("SLURM_STEP_NUM_TASKS", "4"),
            ("SLURM_LOCALID", "1"),
            ("SLURM_STEP_TASKS_PER_NODE", "2(x2)"),
        ];
        assert_eq!(told(&ompi).unwrap(), Some(ours));
        assert_eq!(told(&slurm).unwrap(), Some(ours));
        let nested = [("SLURM_PROCID", "0"), ("SLURM_STEP_NUM_TASKS", "1")];
        assert_eq!(told(&[&ompi[..], &nested].concat()).unwrap(), Some(ours));
        let mpich = [("PMI_RANK", "1"), ("PMI_SIZE", "2"), ("MPI_LOCALRANKID", "1")];
        assert_eq!(told(&mpich).unwrap(), Some(Launch { rank: 1, size: 2, local_rank: 1, local_size: None }));
    }

    #[test]
    fn who_is_alone_is_told_nothing() {
        assert_eq!(told(&[]).unwrap(), None);
        assert_eq!(told(&[("SLURM_PROCID", "0"), ("SLURM_NTASKS", "4")]).unwrap(), None, "a batch script");
        assert_eq!(told(&[("PMI_RANK", "0"), ("PMI_SIZE", "1"), ("MPI_LOCALRANKID", "0")]).unwrap(), None);
    }

    #[test]
    fn contradictions_are_refused() {
        for variables in [
            &[("PMI_SIZE", "2"), ("MPI_LOCALRANKID", "0")][..],
            &[("PMI_RANK", "2"), ("PMI_SIZE", "2"), ("MPI_LOCALRANKID", "0")],
            &[("PMI_RANK", "x"), ("PMI_SIZE", "2"), ("MPI_LOCALRANKID", "0")],
        ] {
            let message = told(variables).unwrap_err().to_string();
            assert!(message.starts_with("what MPICH says of this process makes no sense: "), "{message}");
        }
    }

    #[test]
    fn processes_share_the_processors_of_a_machine_unless_these_are_given_out() {
        let launch = Launch { rank: 0, size: 4, local_rank: 0, local_size: Some(4) };
        let threads = |processors, own| {
            launch.threads(NonZeroUsize::new(processors).unwrap(), NonZeroUsize::new(own).unwrap())
        };
        assert_eq!([threads(16, 16), threads(2, 2), threads(16, 3)], [4, 1, 3]);
    }
}
