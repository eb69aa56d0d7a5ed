#!/bin/sh
# machine.sh start|stop: one machine, which is an OpenSSH server on loopback.
#
# start takes MACHINE_DIR, PUBLIC_KEY and TTL from the environment, stop takes
# MACHINE_DIR. Linux only: what runs on a machine is found in /proc.
set -eu

sshd=$(command -v sshd || echo /usr/sbin/sshd)

# start makes the machine's keys and starts it on a free port, which is one that
# the server can be started on.
start() {
	umask 077
	mkdir -p "$MACHINE_DIR/home"
	cd "$MACHINE_DIR"
	echo "$PUBLIC_KEY" >authorized_keys
	[ -f host_key ] || ssh-keygen -q -t ed25519 -N '' -C '' -f host_key
	[ "$(id -u)" != 0 ] || mkdir -p /run/sshd # sshd run by root wants that folder
	for _ in 1 2 3 4 5 6 7 8 9 10; do
		port=$((20000 + $(od -An -N2 -tu2 /dev/urandom) % 20000))
		configure "$port"
		setsid sh "$script" live </dev/null >/dev/null 2>&1 &
		while kill -0 $! 2>/dev/null; do
			if [ -s pid ]; then
				printf '{"port": %d, "user": "%s", "host_key": "%s"}\n' \
					"$port" "$(id -un)" "$(cut -d' ' -f1,2 host_key.pub)" >server.json
				return
			fi
			sleep 0.02
		done
	done
	echo "no server could be started:" >&2
	cat sshd.log >&2
	exit 1
}

configure() {
	cat >sshd_config <<-CONFIG
		Port $1
		ListenAddress 127.0.0.1
		HostKey $MACHINE_DIR/host_key
		AuthorizedKeysFile $MACHINE_DIR/authorized_keys
		PidFile $MACHINE_DIR/pid
		UsePAM no
		StrictModes no
		PasswordAuthentication no
		PermitRootLogin prohibit-password
	CONFIG
}

# live is the machine's life: until its server is ended, or for TTL seconds. To
# power this machine off is to end its server, which LEVIN_MACHINE_PID tells the
# agent; without it the agent would power off the computer. The shell becomes the
# server, so that its process id is known beforehand.
live() {
	cd "$MACHINE_DIR"
	echo $$ >life
	timeout "$TTL" sh -c '
		echo "SetEnv HOME=$PWD/home LEVIN_MACHINE_PID=$$" >>sshd_config
		exec "$0" -D -f "$PWD/sshd_config" -E "$PWD/sshd.log"
	' "$sshd" || true
	end_processes
}

stop() {
	[ ! -s "$MACHINE_DIR/pid" ] || kill "$(cat "$MACHINE_DIR/pid")" 2>/dev/null || true
	end_processes
	while [ -s "$MACHINE_DIR/life" ] && kill -0 "$(cat "$MACHINE_DIR/life")" 2>/dev/null; do
		sleep 0.02
	done
	rm -rf "$MACHINE_DIR"
}

# end_processes ends all that was started on the machine, which is known by its
# home folder.
end_processes() {
	while processes=$(on_machine) && [ -n "$processes" ]; do
		# shellcheck disable=SC2086 # one word each
		kill -9 $processes 2>/dev/null || true
	done
}

on_machine() {
	for environ in /proc/[0-9]*/environ; do
		if tr '\0' '\n' 2>/dev/null <"$environ" | grep -qxF "HOME=$MACHINE_DIR/home"; then
			process=${environ#/proc/}
			echo "${process%/environ}"
		fi
	done
}

script=$(realpath "$0")
"$1"
