package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// defaultBrokers is where `kalda dev` listens.
const defaultBrokers = "127.0.0.1:9092"

// defaultTimeout bounds a request-and-answer command as a whole; as long as Kafka's own
// request.timeout.ms.
const defaultTimeout = 30 * time.Second

// app is one run of the command line: the environment, the global flags, and the two
// contexts that signals end.
type app struct {
	Env
	brokers []string
	props   []string // -X key=value
	timeout time.Duration
	// timeoutSet says that --timeout was given.
	timeoutSet bool
	// hard ends at the second signal; what cleans up after the first one runs under it.
	hard context.Context
	// reload receives SIGHUP.
	reload chan struct{}
}

// Run executes one command line and returns its exit code. It returns when the command
// is done, also after signals; ctx ends it like a first signal would.
func Run(ctx context.Context, env Env) int {
	if env.Now == nil {
		env.Now = time.Now
	}
	a := &app{Env: env, reload: make(chan struct{}, 1)} // 1: a reload that waits stands for all that come meanwhile
	soft, cancelSoft := context.WithCancelCause(ctx)
	hard, cancelHard := context.WithCancelCause(context.WithoutCancel(ctx))
	a.hard = hard
	done := make(chan struct{})
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		a.watchSignals(done, cancelSoft, cancelHard)
	}()
	defer func() {
		close(done)
		<-stopped
		cancelSoft(nil)
		cancelHard(nil)
	}()

	root := a.rootCommand()
	root.SetArgs(env.Args)
	root.SetIn(env.Stdin)
	root.SetOut(env.Stdout)
	root.SetErr(env.Stderr)
	err := root.ExecuteContext(soft)
	if err != nil && context.Cause(soft) != nil && errors.Is(context.Cause(soft), errInterrupted) &&
		(errors.Is(err, context.Canceled) || errors.Is(err, errInterrupted)) {
		err = errInterrupted
	}
	if errors.Is(err, syscall.EPIPE) { // whoever read our output has enough
		return ExitOK
	}
	return report(env.Stderr, err)
}

// watchSignals turns signals into the ends of the two contexts.
func (a *app) watchSignals(done <-chan struct{}, soft, hard context.CancelCauseFunc) {
	ending := false
	for {
		select {
		case <-done:
			return
		case s := <-a.Signals:
			switch {
			case s == syscall.SIGHUP:
				select {
				case a.reload <- struct{}{}:
				default:
				}
			case !ending:
				ending = true
				soft(errInterrupted)
			default:
				hard(errInterrupted)
			}
		}
	}
}

func (a *app) rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "kalda COMMAND",
		Short: "Apache Kafka's job done by one binary",
		Long: `kalda is a Kafka-compatible log in one binary: the server, its ensemble and the tools.

Start one here with 'kalda dev', then in a second terminal:
  echo hi | kalda produce hello
  kalda consume hello -o start`,
		Version:           buildVersion().line(),
		SilenceUsage:      true,
		SilenceErrors:     true,
		CompletionOptions: cobra.CompletionOptions{DisableDefaultCmd: true},
		Args:              noArgs,
		RunE:              func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetVersionTemplate("{{.Version}}\n")
	f := root.PersistentFlags()
	f.StringSliceVarP(&a.brokers, "brokers", "b", nil, "`HOST:PORT,...` to start from (env KALDA_BROKERS, else "+defaultBrokers+")")
	f.StringSliceVar(&a.brokers, "bootstrap-server", nil, "the same as --brokers")
	f.Lookup("bootstrap-server").Hidden = true
	f.StringArrayVarP(&a.props, "property", "X", nil, "client property `KEY=VALUE`, named as in Kafka")
	f.DurationVar(&a.timeout, "timeout", defaultTimeout, "give up after this time")
	// A terminal cuts words anywhere; 100 columns fit almost all of them.
	root.SetUsageTemplate(strings.ReplaceAll(root.UsageTemplate(), ".FlagUsages |", ".FlagUsagesWrapped 100 |"))
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		if errors.Is(err, pflag.ErrHelp) {
			return err
		}
		return &failure{what: err.Error(), hint: "see '" + cmd.CommandPath() + " --help'", code: ExitUsage}
	})
	root.PersistentPreRunE = func(cmd *cobra.Command, _ []string) error { return a.settle(cmd) }
	if a.Start != nil {
		addGroup(root, "Run:", a.devCommand(), a.startCommand())
	}
	addGroup(root, "Use:", a.topicCommand(), a.produceCommand(), a.consumeCommand(), a.groupCommand(), a.benchCommand())
	addGroup(root, "Operate:", a.clusterCommand(), a.doctorCommand(), a.logCommand(), a.configCommand())
	addGroup(root, "More:", a.generateCommand(), a.versionCommand())
	root.SetHelpCommandGroupID("More:")
	return root
}

// addGroup adds commands that help shows under one title, in this order.
func addGroup(root *cobra.Command, title string, cmds ...*cobra.Command) {
	root.AddGroup(&cobra.Group{ID: title, Title: title})
	for _, c := range cmds {
		c.GroupID = title
	}
	root.AddCommand(cmds...)
}

// settle completes and checks the global flags before a command runs.
func (a *app) settle(cmd *cobra.Command) error {
	a.timeoutSet = cmd.Flags().Changed("timeout")
	if a.timeout <= 0 {
		return usage("--timeout %s: must be above zero", a.timeout)
	}
	if len(a.brokers) == 0 {
		a.brokers = strings.Split(a.lookup("KALDA_BROKERS"), ",")
	}
	var brokers []string
	for _, b := range a.brokers {
		if b = strings.TrimSpace(b); b != "" {
			brokers = append(brokers, withPort(b))
		}
	}
	if len(brokers) == 0 {
		brokers = []string{defaultBrokers}
	}
	a.brokers = brokers
	return nil
}

// withPort adds Kafka's port to an address that names none.
func withPort(addr string) string {
	switch {
	case strings.HasPrefix(addr, "["):
		if strings.HasSuffix(addr, "]") {
			return addr + ":9092"
		}
	case strings.Count(addr, ":") > 1: // an IPv6 address without brackets
		return "[" + addr + "]:9092"
	case !strings.Contains(addr, ":"):
		return addr + ":9092"
	}
	return addr
}

// outputFlag adds -o to a command that prints and returns where its value will be. The
// value is checked when the flag is parsed.
func outputFlag(cmd *cobra.Command) *string {
	v := &choice{value: outText, of: []string{outText, outWide, outJSON, outYAML}}
	cmd.Flags().VarP(v, "output", "o", "how to print")
	completeChoice(cmd, "output", v)
	return &v.value
}

// choice is a flag whose value is one of a few words.
type choice struct {
	value string
	of    []string
}

func (c *choice) String() string { return c.value }
func (c *choice) Type() string   { return strings.Join(c.of, "|") }
func (c *choice) Set(s string) error {
	for _, w := range c.of {
		if s == w {
			c.value = s
			return nil
		}
	}
	return fmt.Errorf("want one of %s", strings.Join(c.of, ", "))
}

func completeChoice(cmd *cobra.Command, name string, c *choice) {
	// The error is for an unknown flag; name was defined by the caller just now.
	_ = cmd.RegisterFlagCompletionFunc(name, cobra.FixedCompletions(c.of, cobra.ShellCompDirectiveNoFileComp))
}

// group makes a command that only holds others.
func groupCommand(use, short string, sub ...*cobra.Command) *cobra.Command {
	c := &cobra.Command{
		Use:   use,
		Short: short,
		Args:  noArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	c.AddCommand(sub...)
	return c
}

// noArgs refuses arguments; on a command that holds others it says which there are.
func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	if !cmd.HasAvailableSubCommands() {
		return &failure{what: fmt.Sprintf("unexpected argument %q", args[0]), hint: "see '" + cmd.CommandPath() + " --help'", code: ExitUsage}
	}
	hint := "see '" + cmd.CommandPath() + " --help'"
	cmd.SuggestionsMinimumDistance = 2
	if s := cmd.SuggestionsFor(args[0]); len(s) > 0 {
		hint = "did you mean '" + cmd.CommandPath() + " " + s[0] + "'?"
	}
	return &failure{what: fmt.Sprintf("unknown command %q", strings.TrimPrefix(cmd.CommandPath()+" "+args[0], cmd.Root().Name()+" ")), hint: hint, code: ExitUsage}
}

// wantArgs checks the number of arguments; names says them as in the usage line. With
// more, there may be more of the last one.
func wantArgs(more bool, names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		hint := "usage: " + cmd.UseLine()
		if len(args) < len(names) {
			return &failure{what: names[len(args)] + " is missing", hint: hint, code: ExitUsage}
		}
		if len(args) > len(names) && !more {
			return &failure{what: fmt.Sprintf("unexpected argument %q", args[len(names)]), hint: hint, code: ExitUsage}
		}
		return nil
	}
}

// note writes one line to stderr that is neither result nor error.
func (a *app) note(format string, args ...any) {
	fmt.Fprintf(a.Stderr, format+"\n", args...)
}

// within returns ctx bounded by --timeout.
func (a *app) within(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, a.timeout)
}

// confirm asks on a terminal before something is destroyed; without a terminal it
// refuses, so that a script has to say --yes.
func (a *app) confirm(yes bool, question string) error {
	if yes {
		return nil
	}
	if !a.StdinTTY || !a.StderrTTY {
		return &failure{what: question + " needs an answer", hint: "say --yes where there is no terminal", code: ExitUsage}
	}
	fmt.Fprintf(a.Stderr, "%s? [y/N] ", question)
	answer := make([]byte, 0, 16)
	for b := make([]byte, 1); ; {
		n, err := a.Stdin.Read(b)
		if n == 1 && b[0] != '\n' {
			answer = append(answer, b[0])
		}
		if err != nil || (n == 1 && b[0] == '\n') || len(answer) == cap(answer) {
			break
		}
	}
	switch strings.ToLower(strings.TrimSpace(string(answer))) {
	case "y", "yes":
		return nil
	}
	return &failure{what: "not done", code: ExitFailed}
}
