//! What a guest's web server says.

use std::{
    io::{Read, Write},
    net::{IpAddr, TcpStream},
};

use super::SOON;

/// What is at `/` of the server at port 80.
#[track_caller]
pub fn page(address: IpAddr) -> String {
    let mut stream = TcpStream::connect_timeout(&(address, 80).into(), SOON).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    write!(stream, "GET / HTTP/1.0\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}
