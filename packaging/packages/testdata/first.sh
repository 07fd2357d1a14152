# The first run of a station's operator, who has a receiver behind rtl_tcp and both packages, on a computer whose collector is
# as its package leaves it: counts what is typed and asked, and how long it takes until the list of stations shows the station.
export DEBIAN_FRONTEND=noninteractive PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
packages=/test/first
commands=0
typed() {
  commands=$((commands + 1))
  "$@"
}

# The network's operator has been here before.
dpkg -i $packages/heimdall-collector_*.deb | grep 'heimdall-collector is installed and stopped. Next: sudo heimdall-collector init'
heimdall-collector init --yes >/test/said
cat /test/said
grep 'Next: sudo systemctl enable --now heimdall-collector && sudo heimdall-collector check --wait 30s' /test/said
[ "$(stat -c '%U:%G %a' /etc/heimdall/collector.yaml)" = 'root:heimdall-collector 640' ]
if heimdall-collector init --yes; then false; fi # a second time
systemctl enable --now heimdall-collector && heimdall-collector check --wait 30s
heimdall-collector verify
[ "$(find /var/lib/heimdall-collector ! -user heimdall-collector | wc -l)" = 0 ]

# A receiver, at the usual port.
printf '[Service]\nEnvironment=HEIMDALL_TEST_RTLTCP=127.0.0.1:1234\nExecStart=/test/rtl_tcp\n' >/etc/systemd/system/receiver.service
systemctl daemon-reload
systemctl start receiver

# From here on everything is typed: each command, and one line for each question. The last question is whether to start.
printf '%s\n' '' '' torino mqtt://127.0.0.1:18830 n y >/test/answers
began=$(date +%s)
typed dpkg -i $packages/heimdall-agent_*.deb
typed heimdall-agent setup </test/answers >/test/said
cat /test/said
grep 'Receiver .*\[rtltcp://127.0.0.1:1234\]' /test/said
grep 'the broker answers, and a collector is there' /test/said
questions=$(($(wc -l </test/answers) - 1)) # but whether to start
[ "$(grep -o '[1-9]/[1-9] ' /test/said | wc -l)" = $questions ] # one line each, none left over
grep 'Start now and at boot' /test/said
patience=150
until typed heimdall-collector station list >/test/list && grep 'torino *online' /test/list; do
  commands=$((commands - 1)) # the same again
  patience=$((patience - 1))
  [ $patience -gt 0 ]
  sleep 0.2
done
took=$(($(date +%s) - began))
cat /test/list
echo "$commands commands, $questions questions and whether to start, $took s" >/test/numbers
[ $commands -le 3 ] && [ $questions -le 5 ] && [ $took -le 300 ]
