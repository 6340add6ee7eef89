"""TLS over socket pairs, client and server in threads. cert.pem and key.pem stand in the working folder."""
import socket
import ssl

from steps import finish, run, step

server_side = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
server_side.load_cert_chain("cert.pem", "key.pem")
client_side = ssl.create_default_context(cafile="cert.pem")
pairs = [socket.socketpair() for _ in range(2)]
answers = []


def side(number):
    plain = pairs[number // 2][number % 2]
    if number % 2:
        with server_side.wrap_socket(plain, server_side=True) as s:
            while got := s.recv(10000):
                step(len(got))
                s.sendall(got[::-1])
    else:
        with client_side.wrap_socket(plain, server_hostname="localhost") as s:
            for i in range(3):
                s.sendall(b"%d %d" % (number, i))
                answers.append(s.recv(10000).decode())
                step(answers[-1])
            s.unwrap() if s.version() != "TLSv1.3" else s.shutdown(socket.SHUT_WR)


run(4, side)
assert sorted(answers) == sorted(f"{i} {n}" for i in range(3) for n in (0, 2))
finish(answers=answers)
