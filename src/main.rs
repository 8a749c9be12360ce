//! The `stanch` command: parse, start tracing, map the outcome to an exit code.

fn main() -> std::process::ExitCode {
    stanch::cli::main()
}
