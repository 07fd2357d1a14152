//go:build linux

// Command bench measures the whole way of a record, from an agent's spool over Mosquitto and the collector into PostgreSQL,
// against Telegraf on the same broker and the same database server in the same run. See README.md beside this file.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"strings"
	"syscall"
	"time"
)

func main() {
	runtime.LockOSThread() // see start
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:])
	stop()
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) > 0 {
		switch args[0] {
		case "station":
			return runStation(ctx, args[1:])
		case "publish":
			return runPublisher(ctx, args[1:])
		}
	}
	var plan plan
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.IntVar(&plan.rounds, "rounds", 3, "rounds of Telegraf, frames and one record a message, in turn")
	flags.IntVar(&plan.records, "records", 100_000, "records of one run in a round")
	flags.IntVar(&plan.backlog, "backlog", 1_000_000, "records of the backlog")
	flags.Float64Var(&plan.rate, "rate", 2000, "records a second for the latency")
	flags.DurationVar(&plan.span, "span", 10*time.Second, "how long that rate is held")
	flags.DurationVar(&plan.watch, "watch", time.Minute, "how long the agent itself is watched for bytes a day")
	flags.StringVar(&plan.programs, "programs", "bin", "folder of heimdall-agent and heimdall-collector")
	only := flags.String("only", "", "parts to run, separated by commas: "+strings.Join(parts(), ", ")+"; all of them when empty")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if err := plan.choose(*only); err != nil {
		return err
	}
	return plan.run(ctx, os.Stdout)
}
