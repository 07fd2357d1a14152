package accounts_test

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	"github.com/google/go-cmp/cmp"

	"github.com/fulgidus/heimdall/collector/accounts"
	"github.com/fulgidus/heimdall/collector/link"
	"github.com/fulgidus/heimdall/packaging/servers"
)

const (
	patience  = 10 * time.Second // within which a revoked session must end, and the longest that anything here may take
	ackTopic  = "heimdall/v1/torino/ack/00112233445566ff"
	publisher = "publisher" // an account that is no part of the rules and may do everything
)

// world is a broker with two stations and a subscriber.
type world struct {
	broker    string // host:port
	keeper    *accounts.Keeper
	passwords map[string]string // by username
	apply     func()            // what people have to do for a change to hold
	// judges tells whether a subscription is refused, not only its messages held back.
	judges bool
	// clears tells whether the collector's own account takes back what stations told Home Assistant, rather than one made for it.
	clears bool
}

func rules() accounts.Rules { return accounts.Rules{} }

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// people adds the accounts of the matrix.
func (w *world) people(t *testing.T) *world {
	t.Helper()
	for _, id := range []string{"torino", "genova"} {
		password, err := w.keeper.AddStation(t.Context(), id, "test")
		if err != nil {
			t.Fatal(err)
		}
		w.passwords[id] = password
	}
	password, err := w.keeper.AddSubscriber(t.Context(), "grafana", "test")
	if err != nil {
		t.Fatal(err)
	}
	w.passwords["sub-grafana"] = password
	w.apply()
	return w
}

// master is the pass of the publisher.
type master struct{}

func (master) Username() string      { return publisher }
func (master) Valid() bool           { return true }
func (master) May(bool, string) bool { return true }

func embeddedWorld(t *testing.T) *world {
	b, err := link.OpenBroker(t.Context(), "127.0.0.1:0", quiet())
	if err != nil {
		t.Fatal(err)
	}
	door, password, err := accounts.NewEmbedded(rules(), b.Sweep)
	if err != nil {
		t.Fatal(err)
	}
	b.Restrict(func(v link.Visitor) link.Pass {
		if v.Username == publisher {
			return master{}
		}
		if pass := door.Admit(accounts.Credentials(v)); pass != nil {
			return pass
		}
		return nil
	})
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error)
	go func() { ended <- b.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	w := &world{
		broker: b.Addr(), keeper: accounts.New(openStore(t), door, "gatherer", quiet()), judges: true, clears: true, apply: func() {},
		passwords: map[string]string{publisher: "", "collector": password},
	}
	return w.people(t)
}

func dynsecWorld(t *testing.T) *world {
	broker := servers.MosquittoWith(t, servers.DynamicSecurity(t, "collector", "secret"))
	ask := func(ctx context.Context, request []byte, mine func([]byte) bool) ([]byte, error) {
		cfg := link.Config{URL: broker.URL, Username: "collector", Password: "secret", ID: "main", Log: quiet()}
		return link.AskBroker(ctx, cfg, accounts.DynsecTopic, accounts.DynsecAnswers, request, mine)
	}
	w := &world{
		broker: broker.Addr, judges: true, apply: func() {}, passwords: map[string]string{publisher: "all", "collector": "secret"},
		keeper: accounts.New(openStore(t), accounts.NewDynsec(rules(), "collector", ask, quiet()), "gatherer", quiet()),
	}
	if err := w.keeper.Repair(t.Context()); err != nil {
		t.Fatal(err)
	}
	acls := ""
	for _, kind := range []string{"publishClientSend", "publishClientReceive", "subscribePattern", "unsubscribePattern"} {
		for _, filter := range []string{"#", "$SYS/#"} {
			acls += fmt.Sprintf(`,{"acltype":%q,"topic":%q,"allow":true}`, kind, filter)
		}
	}
	answer, err := ask(t.Context(), []byte(`{"commands":[{"command":"createRole","rolename":"all","acls":[`+acls[1:]+`]},
		{"command":"createClient","username":"`+publisher+`","password":"all","roles":[{"rolename":"all"}]}]}`), func([]byte) bool { return true })
	if err != nil || strings.Contains(string(answer), "error") {
		t.Fatalf("%s, %v", answer, err)
	}
	return w.people(t)
}

func filesWorld(t *testing.T) *world {
	dir := t.TempDir()
	files := accounts.NewFiles(rules(), dir, "collector", "secret")
	w := &world{
		keeper: accounts.New(openStore(t), files, "gatherer", quiet()), clears: true, apply: func() {},
		passwords: map[string]string{publisher: "all", "collector": "secret"},
	}
	if err := w.keeper.Repair(t.Context()); err != nil {
		t.Fatal(err)
	}
	// The broker reads copies with one more account.
	broker, joined := (*servers.Broker)(nil), t.TempDir()
	join := func() {
		for name, more := range map[string]string{
			"acl_file":      "\nuser " + publisher + "\ntopic readwrite #\ntopic read $SYS/#\n",
			"password_file": publisher + ":" + hashOfAll + "\n",
		} {
			text, err := os.ReadFile(filepath.Join(dir, name))
			if err == nil {
				err = os.WriteFile(filepath.Join(joined, name), append(text, more...), 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	join()
	broker = servers.MosquittoWith(t, "acl_file "+joined+"/acl_file\npassword_file "+joined+"/password_file\n")
	w.broker = broker.Addr
	w.apply = func() {
		join()
		broker.Reload()
	}
	return w.people(t)
}

// hashOfAll is the password "all" as mosquitto_passwd writes it.
const hashOfAll = "$7$101$1OKsJ78tyd2W97g3$VJ9tcy2pkELYgSRjNE8Uz70rlAN24OkVgdsobP6CuuS/ccVpcywG9xNwXuFZfrorzagANgIZQaeXGCzXlV2B2Q=="

// person is a session of an identity.
type person struct {
	mqtt.Client
	lost chan struct{} // closed when the session ended

	mu       sync.Mutex // guards the rest
	got      map[string][]string
	retained map[string]string
}

var session atomic.Uint32

// options are those of a session of an account.
func (w *world) options(username string) *mqtt.ClientOptions {
	return mqtt.NewClientOptions().AddBroker("tcp://" + w.broker).SetUsername(username).SetPassword(w.passwords[username]).
		SetClientID(fmt.Sprintf("%s-%d", username, session.Add(1))).SetAutoReconnect(false).SetProtocolVersion(4).SetConnectTimeout(patience)
}

// enter begins a session; the error is that of a refusal.
func (w *world) enter(t *testing.T, username string) (*person, error) {
	t.Helper()
	p := &person{lost: make(chan struct{}), got: map[string][]string{}, retained: map[string]string{}}
	o := w.options(username).SetConnectionLostHandler(func(mqtt.Client, error) { close(p.lost) }).
		SetDefaultPublishHandler(func(_ mqtt.Client, m mqtt.Message) {
			p.mu.Lock()
			defer p.mu.Unlock()
			if m.Retained() {
				p.retained[m.Topic()] = string(m.Payload())
				return
			}
			p.got[m.Topic()] = append(p.got[m.Topic()], string(m.Payload()))
		})
	p.Client = mqtt.NewClient(o)
	token := p.Connect()
	if !token.WaitTimeout(patience) {
		t.Fatalf("%s: the broker does not answer", username)
	}
	t.Cleanup(func() { p.Disconnect(0) })
	return p, token.Error()
}

// login begins a session that must come about. A broker that has just been reloaded may still be at it.
func (w *world) login(t *testing.T, username string) *person {
	t.Helper()
	for deadline := time.Now().Add(patience); ; {
		p, err := w.enter(t, username)
		if err == nil {
			return p
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: %v", username, err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func done(t *testing.T, token mqtt.Token) {
	t.Helper()
	if !token.WaitTimeout(patience) || token.Error() != nil {
		t.Fatalf("the broker does not answer: %v", token.Error())
	}
}

// subscribe gives the broker's answer to each filter, one at a time.
func (p *person) subscribe(t *testing.T, filters ...string) map[string]bool {
	t.Helper()
	granted := map[string]bool{}
	for _, f := range filters {
		token := p.Subscribe(f, 1, nil)
		if !token.WaitTimeout(patience) {
			t.Fatalf("no answer to the subscription to %s", f)
		}
		for _, code := range token.(*mqtt.SubscribeToken).Result() { // paho names a shared subscription without its group
			granted[f] = code <= 2
		}
	}
	return granted
}

// heard tells whether a message has come.
func (p *person) heard(topic, payload string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Contains(p.got[topic], payload)
}

// topics are those on which something came, sorted.
func (p *person) topics(of map[string][]string) []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Sorted(maps.Keys(of))
}

func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %v", what, patience)
		}
	}
}

// flush waits until everything that was published before has come to p: the marker comes after it.
func (w *world) flush(t *testing.T, from, p *person, topic string) {
	t.Helper()
	marker := fmt.Sprintf("marker %d", session.Add(1))
	done(t, from.Publish(topic, 1, false, marker))
	eventually(t, marker+" on "+topic, func() bool { return p.heard(topic, marker) })
}

// everything is each topic of the contract, for both stations, and others; below heimdall/v1 as far as nothing else is said.
func everything() []string {
	var list []string
	for _, station := range []string{"torino", "genova"} {
		for _, name := range []string{
			"status", "info", "state", "measurement", "spectrum", "detection", "health", "gap", "iq", "reply", "site", "batch",
			"ack/00112233445566ff", "command", "json/measurement", "json/reply", "json", "status/more", "",
		} {
			list = append(list, strings.TrimSuffix("heimdall/v1/"+station+"/"+name, "/"))
		}
		list = append(list, "homeassistant/device/heimdall-"+station+"/config")
	}
	return append(list, "heimdall/v1/collector/main/status", "heimdall/v1/fix/1", "heimdall/v1/acquisition/1", "heimdall/v1/sub-grafana/status",
		"heimdall/v1/collector/status", "heimdall/v1", "heimdall/v2/torino/status", "heimdall", "homeassistant/status", "homeassistant/device/other/config", "torino/status", "elsewhere")
}

// mayPublish is the contract's table of who publishes what, written down again.
func (w *world) mayPublish(username, topic string) bool {
	switch username {
	case "collector":
		return w.clears && strings.HasPrefix(topic, "homeassistant/device/heimdall-") || strings.HasPrefix(topic, "heimdall/v1/") || topic == "heimdall/v1"
	case "torino", "genova":
		if topic == "homeassistant/device/heimdall-"+username+"/config" {
			return true
		}
		name, own := strings.CutPrefix(topic, "heimdall/v1/"+username+"/")
		return own && slices.Contains([]string{"status", "info", "state", "measurement", "spectrum", "detection", "health", "gap", "iq", "reply", "site", "batch"}, name)
	}
	return false
}

// mayRead is the contract's table of who reads what.
func mayRead(username, topic string) bool {
	levels := strings.Split(topic, "/")
	below := func(n int) string { // the levels from n on, of topics of version 1
		if len(levels) <= n || levels[0] != "heimdall" || levels[1] != "v1" {
			return "?"
		}
		return strings.Join(levels[n:], "/")
	}
	if len(levels) == 5 && levels[2] == "collector" && below(4) == "status" {
		return true
	}
	switch username {
	case "collector":
		return strings.HasPrefix(topic, "heimdall/v1/") || topic == "heimdall/v1"
	case "sub-grafana":
		return strings.HasPrefix(topic, "homeassistant/device/") || slices.Contains([]string{"status", "info", "state", "json", "json/measurement", "json/reply"}, below(3))
	}
	return topic == "homeassistant/status" || len(levels) > 2 && levels[2] == username && (below(3) == "command" || strings.HasPrefix(below(3), "ack/"))
}

// asked are filters that an identity asks for; with all of them granted it would hear everything.
func asked(username string) []string {
	return append([]string{
		"#", "+/#", "heimdall/#", "heimdall/v1/#", "heimdall/v1/+/#", "heimdall/+/+/command", "heimdall/v1/+/command", "heimdall/v1/+/iq", "heimdall/v1/+/+",
		"heimdall/v1/+/measurement", "heimdall/v1/+/ack/#", "heimdall/v1/genova/#", "heimdall/v1/genova/ack/#", "heimdall/v1/torino/#", "heimdall/v1/+/site",
		"heimdall/v1/+/batch", "homeassistant/#", "homeassistant/device/#", "homeassistant/+/+/config", "homeassistant/device/+/config", "$SYS/#", "$SYS/broker/version", "+/+/+/+", "+/v1/torino/+",
		"heimdall/v1/torino/ack/#", "heimdall/v1/torino/command", "heimdall/v1/collector/+/status", "homeassistant/status", ackTopic,
		"heimdall/v1/+/status", "heimdall/v1/+/info", "heimdall/v1/+/state", "heimdall/v1/+/json/#", "heimdall/v1/torino/json/measurement", "heimdall/v1/torino/status",
	}, shared(username)...)
}

func shared(username string) []string {
	if username == "collector" {
		return nil // it would take messages away from its own other subscriptions' proof
	}
	return []string{"$share/heimdall/heimdall/v1/+/measurement", "$share/x/#", "$share/x/heimdall/v1/torino/command", "$share/x/heimdall/v1/+/status"}
}

// mayAsk tells whether a filter is one that the contract gives an identity.
func mayAsk(username, filter string) bool {
	switch username {
	case "collector":
		return strings.HasPrefix(filter, "heimdall/v1/")
	case "sub-grafana":
		return slices.Contains([]string{
			"heimdall/v1/+/status", "heimdall/v1/+/info", "heimdall/v1/+/state", "heimdall/v1/+/json/#", "heimdall/v1/torino/json/measurement",
			"heimdall/v1/torino/status", "heimdall/v1/collector/+/status", "homeassistant/device/+/config",
		}, filter)
	}
	return slices.Contains([]string{"heimdall/v1/torino/ack/#", "heimdall/v1/torino/command", "heimdall/v1/collector/+/status", "homeassistant/status", ackTopic}, filter)
}

// identities are those of the matrix. The collector's own account at the plug-in also has the rights of its role admin to read.
func (w *world) identities() []string { return []string{"torino", "sub-grafana", "collector"} }

func TestMatrix(t *testing.T) {
	for name, open := range map[string]func(*testing.T) *world{"embedded": embeddedWorld, "dynsec": dynsecWorld, "files": filesWorld} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := open(t)
			for _, username := range w.identities() {
				t.Run(username, func(t *testing.T) {
					w.publishes(t, username)
					if username != "collector" || name == "embedded" || name == "files" {
						w.hears(t, username)
					}
					w.leavesWills(t, username)
					w.leavesBrokerTopicsAlone(t, username)
				})
			}
			t.Run("shared", w.shares)
			t.Run("revoked", w.revokes)
		})
	}
}

// publishes has an identity publish everything with each QoS, also retained, and looks what arrives and what is retained.
func (w *world) publishes(t *testing.T, username string) {
	observer, p := w.login(t, publisher), w.login(t, username)
	observer.subscribe(t, "#")
	kept := map[string]string{}
	for _, topic := range everything() {
		if !w.mayPublish(username, topic) {
			kept[topic] = "kept"
			done(t, observer.Publish(topic, 1, true, "kept"))
		}
	}
	w.flush(t, observer, observer, "flush")
	observer.mu.Lock()
	clear(observer.got)
	observer.mu.Unlock()

	want := map[string][]string{}
	for _, topic := range everything() {
		if w.mayPublish(username, topic) {
			want[topic] = []string{"0", "1", "2", "retained"}
			kept[topic] = "retained"
		}
		for qos := range byte(3) {
			done(t, p.Publish(topic, qos, false, fmt.Sprint(qos)))
		}
		done(t, p.Publish(topic, 1, true, "retained"))
		if !w.mayPublish(username, topic) {
			done(t, p.Publish(topic, 1, true, "")) // clears what is retained
		}
	}
	p.subscribe(t, "heimdall/v1/collector/+/status") // answered when all before is through
	w.flush(t, observer, observer, "flush")
	observer.mu.Lock()
	delete(observer.got, "flush")
	if diff := cmp.Diff(want, observer.got); diff != "" {
		t.Errorf("what %s published arrived (-want +got):\n%s", username, diff)
	}
	observer.mu.Unlock()

	late := w.login(t, publisher)
	late.subscribe(t, "#", "flush") // the second is answered when all that is retained is on its way
	w.flush(t, observer, late, "flush")
	late.mu.Lock()
	defer late.mu.Unlock()
	if diff := cmp.Diff(kept, late.retained); diff != "" {
		t.Errorf("after %s, retained is (-want +got):\n%s", username, diff)
	}
	for topic := range late.retained {
		done(t, observer.Publish(topic, 1, true, ""))
	}
}

// hears has an identity ask for everything, in ways that are allowed and ways that are not, and looks what it hears.
func (w *world) hears(t *testing.T, username string) {
	source := w.login(t, publisher)
	for _, topic := range everything() {
		done(t, source.Publish(topic, 1, true, "before"))
	}
	p := w.login(t, username)
	granted := p.subscribe(t, asked(username)...)
	p.subscribe(t, asked(username)[0]) // answered when all that is retained is on its way
	for _, filter := range asked(username) {
		if want := !w.judges || mayAsk(username, filter); granted[filter] != want {
			t.Errorf("%s may subscribe to %s: got %t, want %t", username, filter, granted[filter], want)
		}
	}
	for _, topic := range everything() {
		done(t, source.Publish(topic, 1, false, "now"))
	}
	w.flush(t, source, p, "heimdall/v1/collector/main/status")
	var want []string
	for _, topic := range everything() {
		if mayRead(username, topic) {
			want = append(want, topic)
		}
		done(t, source.Publish(topic, 1, true, ""))
	}
	slices.Sort(want)
	if diff := cmp.Diff(want, p.topics(p.got)); diff != "" {
		t.Errorf("%s heard (-want +got):\n%s", username, diff)
	}
	// The embedded broker gives a/# what was retained below a, and not of a itself.
	parents := func(topic string) bool { return topic == "heimdall/v1" || strings.HasSuffix(topic, "/json") }
	want = slices.DeleteFunc(want, parents)
	p.mu.Lock()
	defer p.mu.Unlock()
	if diff := cmp.Diff(want, slices.DeleteFunc(slices.Sorted(maps.Keys(p.retained)), parents)); diff != "" {
		t.Errorf("%s was given as retained (-want +got):\n%s", username, diff)
	}
}

// leavesWills has an identity come with a will on topics that are not its own, and go without a word: the will goes nowhere.
func (w *world) leavesWills(t *testing.T, username string) {
	enter := func(topic string) (cut func(), err error) {
		var conn net.Conn
		o := w.options(username).SetWill(topic, "will", 1, true).SetCustomOpenConnectionFn(func(*url.URL, mqtt.ClientOptions) (net.Conn, error) {
			var d net.Dialer
			conn, err = d.DialContext(t.Context(), "tcp", w.broker)
			return conn, err
		})
		c := mqtt.NewClient(o)
		token := c.Connect()
		if !token.WaitTimeout(patience) {
			t.Fatal("no answer")
		}
		return func() { conn.Close() }, token.Error()
	}
	observer := w.login(t, publisher)
	observer.subscribe(t, "#")
	for _, topic := range []string{ackTopic, "heimdall/v1/torino/command", "heimdall/v1/genova/status", "heimdall/v1/genova/command", "heimdall/v1/collector/main/status", "homeassistant/status", "elsewhere"} {
		if w.mayPublish(username, topic) {
			continue
		}
		cut, err := enter(topic)
		if err != nil {
			t.Errorf("%s with a will on %s: %v", username, topic, err)
			continue
		}
		cut()
	}
	if own := "heimdall/v1/torino/status"; w.mayPublish(username, own) {
		cut, err := enter(own)
		if err != nil {
			t.Fatalf("%s with a will on %s: %v", username, own, err)
		}
		cut()
		eventually(t, "its will", func() bool { return observer.heard(own, "will") })
		done(t, observer.Publish(own, 1, true, ""))
	}
	for range 2 { // the broker sees the ends of the sessions while it is at the first, if not before
		w.flush(t, observer, observer, "flush")
	}
	for _, topic := range observer.topics(observer.got) {
		if topic != "flush" && !w.mayPublish(username, topic) {
			t.Errorf("a will of %s arrived on %s", username, topic)
		}
	}
}

// leavesBrokerTopicsAlone has an identity publish to the broker's own topics. That may cost it its session.
func (w *world) leavesBrokerTopicsAlone(t *testing.T, username string) {
	observer := w.login(t, publisher)
	observer.subscribe(t, "#", "$SYS/broker/version", "$SYS/heimdall")
	for _, topic := range []string{"$SYS/broker/version", "$SYS/heimdall", "$share/x/heimdall/v1/torino/status", "$other"} {
		p := w.login(t, username)
		p.Publish(topic, 0, true, "mine")
		p.Publish(topic, 1, true, "mine")
		select {
		case <-p.Subscribe("heimdall/v1/collector/+/status", 1, nil).Done(): // when all before is through
		case <-p.lost: // then paho may not say so
		case <-time.After(patience):
			t.Fatalf("%s: neither an answer nor an end", username)
		}
	}
	w.flush(t, observer, observer, "flush")
	observer.mu.Lock()
	defer observer.mu.Unlock()
	for topic, payloads := range observer.got {
		if slices.Contains(payloads, "mine") {
			t.Errorf("what %s published arrived on %s", username, topic)
		}
	}
	for topic, payload := range observer.retained {
		if payload == "mine" {
			t.Errorf("what %s published is retained on %s", username, topic)
		}
	}
}

// shares has the collector take its share of the records, which a subscriber has asked for as well. Where subscriptions are not
// judged, what falls to the subscriber is lost until its agent sends it again.
func (w *world) shares(t *testing.T) {
	const filter = "$share/heimdall/heimdall/v1/+/measurement"
	source, collector, reader := w.login(t, publisher), w.login(t, "collector"), w.login(t, "sub-grafana")
	if got := reader.subscribe(t, filter)[filter]; got == w.judges {
		t.Errorf("a subscriber may share the collector's work: got %t, want %t", got, !w.judges)
	}
	if !collector.subscribe(t, filter)[filter] {
		t.Fatal("the collector may not share the work")
	}
	if !w.judges {
		done(t, reader.Unsubscribe(filter))
	}
	for n := range 20 {
		done(t, source.Publish("heimdall/v1/torino/measurement", 1, false, fmt.Sprint(n)))
	}
	eventually(t, "all records", func() bool {
		collector.mu.Lock()
		defer collector.mu.Unlock()
		return len(collector.got["heimdall/v1/torino/measurement"]) == 20
	})
}

// revokes ends accounts with open sessions.
func (w *world) revokes(t *testing.T) {
	station, other, reader := w.login(t, "torino"), w.login(t, "genova"), w.login(t, "sub-grafana")
	began := time.Now()
	if err := w.keeper.DisableStation(t.Context(), "torino", "test"); err != nil {
		t.Fatal(err)
	}
	if err := w.keeper.RevokeSubscriber(t.Context(), "grafana", "test"); err != nil {
		t.Fatal(err)
	}
	w.apply()
	for name, p := range map[string]*person{"torino": station, "sub-grafana": reader} {
		select {
		case <-p.lost:
			t.Logf("the session of %s ended after %v", name, time.Since(began).Round(time.Millisecond))
		case <-time.After(patience):
			t.Errorf("the session of %s goes on %v after it was revoked", name, patience)
		}
		if _, err := w.enter(t, name); err == nil {
			t.Errorf("%s is let in after it was revoked", name)
		}
	}
	done(t, other.Publish("heimdall/v1/genova/state", 1, false, "{}"))
	select {
	case <-other.lost:
		t.Error("a session was cut that was not revoked")
	default:
	}
	password, err := w.keeper.AddStation(t.Context(), "torino", "test")
	if err != nil {
		t.Fatal(err)
	}
	w.passwords["torino"] = password
	w.apply()
	w.login(t, "torino")
}
