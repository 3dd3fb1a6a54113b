//! One test binary, so one link: everything from outside, through the built program, and the house's own rules.

// Names of protocols and products are words here, not code.
#![allow(clippy::doc_markdown)]

mod bad_input;
mod choice;
mod cli;
mod completions;
mod crowd;
mod day;
mod disable;
mod doctor;
mod figures;
mod fuzz;
mod hardship;
mod history;
mod hostile_events;
mod hostile_http;
mod hostile_websocket;
mod killed;
mod layers;
mod limits;
mod live;
mod login;
mod logins;
mod markers;
mod memory;
mod older;
mod older_homes;
mod outlive;
mod passage;
mod persistence;
mod profiles;
mod proxy_guard;
mod proxy_http;
mod proxy_tls;
mod proxy_websocket;
mod quota;
mod rotation;
mod rules;
mod run;
mod screens;
mod standin_probe;
mod standin_self;
mod support;
mod terminal;
mod tls;
mod transfer;
mod watch;
mod way_out;
mod websocket_peers;
