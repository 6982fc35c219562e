//! The proxy's program.

fn main() -> std::process::ExitCode {
    tributary_proxy::main(std::env::args_os())
}
