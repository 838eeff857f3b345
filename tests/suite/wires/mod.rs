//! Every wire, encrypted: who is believed by certificate, who is not, and that plaintext stays on this machine.

mod certificates;
mod cli;
mod grpc;
mod nats;
mod postgres;
mod refusals;
