// Command soak runs a soak for a person: `make soak SOAK=10m SEED=1`. It ends with 1 when a promise was broken.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/fulgidus/heimdall/packaging/e2e/soak"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	broken, err := run(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	if broken || err != nil {
		os.Exit(1)
	}
}

func run(ctx context.Context) (broken bool, err error) {
	lasts := flag.Duration("for", time.Minute, "how long faults happen")
	seed := flag.Uint64("seed", uint64(time.Now().UnixNano()), "what decides the faults")
	faults := flag.String("faults", "", "groups of faults, separated by commas; all otherwise: "+strings.Join(soak.Groups(), ","))
	dir := flag.String("dir", "", "where to keep everything; otherwise it is kept only when a promise was broken")
	log := flag.String("log", "", "file to append the summary to, as a line of JSON")
	flag.Parse()
	o := soak.Options{For: *lasts, Seed: *seed, Module: ".", Dir: *dir, Out: os.Stdout}
	if *faults != "" {
		o.Faults = strings.Split(*faults, ",")
	}
	fmt.Printf("seed %d, faults for %v\n", o.Seed, o.For)
	summary, err := soak.Run(ctx, o)
	if err != nil {
		return false, err
	}
	summary.Print(os.Stdout)
	if *log != "" {
		err = appendLine(*log, summary)
	}
	return len(summary.Findings) > 0, err
}

func appendLine(path string, summary *soak.Summary) error {
	text, err := json.Marshal(summary)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.Write(append(text, '\n'))
	return err
}
