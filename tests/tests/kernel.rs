//! The senses on the running kernel.
use breachline::kernel::{Config, Sensor};

#[tokio::test(flavor = "current_thread")]
async fn loads() {
    let mut sensor = Sensor::load(&Config::default()).expect("loads");
    eprintln!("{:?}", sensor.verdicts());
    std::process::Command::new("/bin/sh").args(["-c", "true; /bin/true"]).status().expect("runs");
    let _ = std::net::TcpStream::connect("127.0.0.1:1");
    let l = std::net::TcpListener::bind("127.0.0.1:0").expect("bind");
    let _ = std::net::TcpStream::connect(l.local_addr().expect("addr"));
    let mut out = Vec::new();
    sensor.ready().await;
    sensor.drain(breachline::decode::BootClock { offset_ns: 0 }, &mut out);
    for event in out {
        println!("{event:?}");
    }
    println!("{:?}", sensor.counters());
}
