# The life of both packages on one computer, as root under systemd: installed, configured, run, killed, upgraded, removed, purged.
# Each line is shown before it runs; the first one that fails ends the test.
export DEBIAN_FRONTEND=noninteractive PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
first=/test/first second=/test/second

# eventually SECONDS COMMAND... repeats the command until it succeeds.
eventually() {
  set +x
  tries=$(($1 * 5))
  shift
  until eval "$*" >/dev/null 2>&1; do
    tries=$((tries - 1))
    if [ $tries -le 0 ]; then
      echo "never: $*"
      exit 1
    fi
    sleep 0.2
  done
  set -x
}
refused() { ! "$@"; }
field() { heimdall-agent spool stat --json | grep -o "\"$1\":\"\{0,1\}[0-9a-f]*" | head -n 1 | sed 's/.*[:"]//'; }
pid() { systemctl show -P MainPID "$1"; }

# A broker with accounts.
mosquitto_passwd -c -b /etc/accounts torino pass-agent
mosquitto_passwd -b /etc/accounts collector pass-collector
chmod 644 /etc/accounts
printf 'listener 1883 127.0.0.1\nallow_anonymous false\npassword_file /etc/accounts\nmax_inflight_messages 2000\n' >/etc/broker.conf
printf '[Service]\nExecStart=/usr/sbin/mosquitto -c /etc/broker.conf\n' >/etc/systemd/system/broker.service
systemctl daemon-reload

# Installed: stopped, and not to be started at boot. Without a configuration a start fails once.
dpkg -i $first/heimdall-agent_*.deb >/test/said
grep 'heimdall-agent is installed and stopped. Next: ' /test/said
refused systemctl is-enabled heimdall-agent
refused systemctl is-active heimdall-agent
[ "$(stat -c '%U %a' /var/lib/heimdall-agent)" = 'heimdall-agent 700' ]
refused systemctl start heimdall-agent
[ "$(systemctl show -P ExecMainStatus heimdall-agent)" = 2 ]
[ "$(systemctl show -P NRestarts heimdall-agent)" = 0 ]

# Configured by setup, which also starts it: a place, who may know it, a name, the broker with an account, and no recordings.
cp /scene.yaml /etc/heimdall/scene.yaml
systemctl start broker
printf '%s\n' '45.03411 7.29310 612m' 1 torino b mqtt://127.0.0.1:1883 torino wrong mqtt://127.0.0.1:1883 torino pass-agent n y |
  heimdall-agent setup --source 'sim:/etc/heimdall/scene.yaml?station=torino&center=145.5M' >/test/said
cat /test/said
grep 'not [Aa]uthori[sz]ed' /test/said
grep 'the broker answers' /test/said
grep 'running: first record acknowledged after' /test/said
[ "$(stat -c '%G %a' /etc/heimdall/agent.yaml)" = 'heimdall-agent 640' ]
systemctl is-enabled heimdall-agent
heimdall-agent status | grep 'torino running'
refused heimdall-agent setup --yes
systemctl stop broker

# More often, for a collector, and with the password as a credential that the account itself cannot read.
sed -i '/format: json/d; /^delivery:/,+1d; /password:/d' /etc/heimdall/agent.yaml
printf '    fft: 1024\n    history: 4MiB\n    measurement: {every: 100ms}\n' >>/etc/heimdall/agent.yaml
cat /etc/heimdall/agent.yaml
mkdir -p /etc/credstore
install -m 600 /dev/null /etc/credstore/heimdall-agent.mqtt.password
echo pass-agent >/etc/credstore/heimdall-agent.mqtt.password
refused heimdall-agent service install
heimdall-agent service install 2>&1 | grep 'systemctl enable --now heimdall-agent'
systemctl restart heimdall-agent
heimdall-agent service status | grep 'is running'
eventually 20 'systemctl show -P StatusText heimdall-agent | grep "^running"'
[ "$(ps -o user:20= -p "$(pid heimdall-agent)")" = heimdall-agent ]
journalctl -u heimdall-agent -o cat | grep 'msg="station is running"' | grep -v time=
journalctl -u heimdall-agent -p info -o cat | grep 'station is running'
refused journalctl -u heimdall-agent -p warning -o cat -g 'station is running'
# Its sandbox lets it ask the kernel how well the time is known (adjtimex, on amd64 the call 159), and not set it (164).
mkdir -p /run/systemd/system/heimdall-agent.service.d
echo 'my $t = "\0" x 256; exit(syscall(159, $t) < 0 || syscall(164, $t, 0) == 0)' >/clock.pl
printf '[Service]\nExecStartPre=/usr/bin/perl /clock.pl\n' >/run/systemd/system/heimdall-agent.service.d/clock.conf
systemctl daemon-reload
systemctl restart heimdall-agent
rm /run/systemd/system/heimdall-agent.service.d/clock.conf

# Killed: it is there again, and the spool with it.
eventually 20 '[ "$(field records)" -gt 20 ]'
spool=$(field spool) last=$(field last_seq) before=$(pid heimdall-agent)
sleep 3 # what has a number is on disk then
kill -9 "$before"
eventually 30 'systemctl is-active heimdall-agent && [ "$(pid heimdall-agent)" != '"$before"' ] && [ "$(field records)" -ge 20 ]'
[ "$(field spool)" = "$spool" ]
[ "$(field last_seq)" -ge "$last" ]

# Hung: systemd finds out and starts it anew.
mkdir -p /run/systemd/system/heimdall-agent.service.d
printf '[Service]\nWatchdogSec=4\nRestartSec=0\n' >/run/systemd/system/heimdall-agent.service.d/soon.conf
systemctl daemon-reload
systemctl restart heimdall-agent
before=$(pid heimdall-agent)
sleep 6 # longer than the watchdog: signs of life come
[ "$(pid heimdall-agent)" = "$before" ]
kill -STOP "$before"
eventually 30 'systemctl is-active heimdall-agent && [ "$(pid heimdall-agent)" != '"$before"' ]'
journalctl -u heimdall-agent | grep -i 'watchdog timeout'
rm /run/systemd/system/heimdall-agent.service.d/soon.conf
systemctl daemon-reload

# Upgraded while it runs: configuration and spool stay, and the new program runs.
sum=$(md5sum </etc/heimdall/agent.yaml) last=$(field last_seq)
dpkg -i $second/heimdall-agent_*.deb
[ "$(md5sum </etc/heimdall/agent.yaml)" = "$sum" ]
[ "$(stat -c '%G %a' /etc/heimdall/agent.yaml)" = 'heimdall-agent 640' ]
eventually 20 'heimdall-agent status --json | grep "\"version\":\"1.0.1\""'
[ "$(field spool)" = "$spool" ]
[ "$(field last_seq)" -ge "$last" ]
systemctl is-enabled heimdall-agent

# The collector: what waited arrives, and all of it is accounted for.
dpkg -i $second/heimdall-collector_*.deb | grep 'heimdall-collector is installed and stopped. Next: '
cat >/etc/heimdall/collector.yaml <<'EOF'
mqtt: {url: "mqtt://127.0.0.1:1883", username: collector}
EOF
echo pass-collector >/etc/credstore/heimdall-collector.mqtt.password
systemctl start broker
systemctl enable --now heimdall-collector
cd /var/lib/heimdall-collector
eventually 30 'heimdall-collector check'
[ "$(ps -o user:20= -p "$(pid heimdall-collector)")" = heimdall-collector ]
eventually 90 '[ "$(field records)" -lt 60 ]'
heimdall-agent status | grep 'a collector is online'
heimdall-collector station list | grep torino
eventually 120 'heimdall-collector verify' # what the broker took before there was a collector is asked for, and the agent has it still
kill -9 "$(pid heimdall-collector)"
eventually 30 'systemctl is-active heimdall-collector && heimdall-collector verify'
cd /

# With a drop-in for USB it runs as well.
install -D -m 644 /usr/share/heimdall-agent/usb.conf /etc/systemd/system/heimdall-agent.service.d/usb.conf
systemctl daemon-reload
systemctl restart heimdall-agent
systemctl is-active heimdall-agent

# Stopped within 10 s, with the spool closed; the broker is held, so that it answers nothing.
systemctl kill -s STOP broker
began=$(date +%s)
systemctl stop heimdall-agent
[ $(($(date +%s) - began)) -le 10 ]
[ "$(systemctl show -P Result heimdall-agent)" = success ]
began=$(date +%s)
systemctl stop heimdall-collector
[ $(($(date +%s) - began)) -le 10 ]
[ "$(systemctl show -P Result heimdall-collector)" = success ]
heimdall-agent spool verify
systemctl kill -s KILL broker

# Removed with some not sent: the data stays. Purged: what is deleted is told.
systemctl start heimdall-agent
eventually 20 '[ "$(field records)" -gt 10 ]'
dpkg -r heimdall-agent >/test/said 2>&1
cat /test/said
grep 'Not sent yet' /test/said
grep "torino spool $spool: [0-9]* records wait" /test/said
[ -e /var/lib/heimdall-agent/spool.db ] && [ -e /etc/heimdall/agent.yaml ]
refused pgrep -x heimdall-agent
# Installed once more, it goes on where it was.
dpkg -i $second/heimdall-agent_*.deb
systemctl start heimdall-agent
eventually 20 'systemctl is-active heimdall-agent'
[ "$(field spool)" = "$spool" ]
dpkg -P heimdall-agent >/test/said 2>&1
cat /test/said
grep 'deleting what was never sent' /test/said
grep "torino spool $spool: [0-9]* records wait" /test/said
refused ls /var/lib/heimdall-agent
refused ls /etc/heimdall/agent.yaml
refused ls /etc/systemd/system/heimdall-agent.service.d/usb.conf
refused getent passwd heimdall-agent
dpkg -P heimdall-collector
refused ls /var/lib/heimdall-collector

# Without a package: the program makes the same service of itself.
rm /etc/credstore/heimdall-*
dpkg-deb --fsys-tarfile $second/heimdall-agent_*.deb | tar -xO ./usr/bin/heimdall-agent >/usr/local/bin/heimdall-agent
chmod 755 /usr/local/bin/heimdall-agent
hash -r
mkdir -p /etc/heimdall
printf 'station: {id: torino}\nreceivers: [{id: r0, source: "sim:/etc/heimdall/scene.yaml?station=torino&center=145.5M"}]\n' >/etc/heimdall/mine.yaml
cp /scene.yaml /etc/heimdall/
chmod 600 /etc/heimdall/mine.yaml
refused heimdall-agent service status
heimdall-agent service install --config /etc/heimdall/mine.yaml
heimdall-agent service start
heimdall-agent service status | grep 'is running'
[ "$(ps -o user:20= -p "$(pid heimdall-agent)")" = heimdall-agent ]
heimdall-agent service restart
heimdall-agent service stop
refused heimdall-agent service status
heimdall-agent service uninstall
refused systemctl cat heimdall-agent

# As rpm: the same scripts, told in numbers.
userdel heimdall-agent
rm -rf /var/lib/heimdall-agent /usr/local/bin/heimdall-agent
hash -r
rpm -i --nodeps $first/heimdall-agent-*.rpm
[ "$(stat -c '%U %a' /var/lib/heimdall-agent)" = 'heimdall-agent 700' ]
mv /etc/heimdall/mine.yaml /etc/heimdall/agent.yaml
chown heimdall-agent /etc/heimdall/agent.yaml
systemctl enable --now heimdall-agent
rpm -U --nodeps $second/heimdall-agent-*.rpm
eventually 20 'heimdall-agent status --json | grep "\"version\":\"1.0.1\""'
eventually 20 '[ "$(field records)" -gt 0 ]'
rpm -e heimdall-agent | grep 'Not sent yet'
refused systemctl is-active heimdall-agent
[ -e /var/lib/heimdall-agent/spool.db ]
