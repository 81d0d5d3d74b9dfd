package cli

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/kalda-io/kalda/internal/config"
)

func (a *app) configCommand() *cobra.Command {
	return groupCommand("config", "Explain, check and convert the configuration of a node",
		a.configDoc(), a.configCheck(), a.configConvert())
}

// keyDoc is one key in the answer of `config doc`.
type keyDoc struct {
	Name     string   `json:"name"`
	Scope    string   `json:"scope"` // broker or topic
	Type     string   `json:"type"`
	Unit     string   `json:"unit,omitempty"`
	Default  *string  `json:"default"`
	Values   string   `json:"values,omitempty"`
	Update   string   `json:"update,omitempty"`
	Status   string   `json:"status"`
	Instead  string   `json:"instead,omitempty"`
	Synonyms []string `json:"synonyms,omitempty"`
	Doc      string   `json:"doc"`
}

func docOf(k *config.Key, scope string) keyDoc {
	d := keyDoc{Name: k.Name, Scope: scope, Type: k.Type.String(), Unit: k.Unit.String(), Values: k.Valid.String(), Status: k.Status.String(), Instead: k.Instead, Doc: k.Doc}
	if !k.Null {
		d.Default = &k.Default
	}
	if scope == "broker" {
		d.Update = k.Update.String()
	}
	for _, s := range k.Synonyms {
		d.Synonyms = append(d.Synonyms, s.Name)
	}
	return d
}

func (a *app) configDoc() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "doc [KEY...]",
		Short: "Explain configuration keys",
		Long: `Explain configuration keys: those named, or all that have an effect. A word that is no key
shows the keys that contain it.

  kalda config doc log.retention.ms
  kalda config doc retention --topic`,
		Args: cobra.ArbitraryArgs,
	}
	topic := cmd.Flags().Bool("topic", false, "keys of topics instead of brokers")
	all := cmd.Flags().Bool("all", false, "also keys that Kafka knows and that have no effect here")
	out := outputFlag(cmd)
	cmd.RunE = func(_ *cobra.Command, args []string) error {
		keys, scope := config.BrokerKeys(), "broker"
		if *topic {
			keys, scope = config.TopicKeys(), "topic"
		}
		docs, exact, err := pickKeys(keys, scope, args, *all)
		if err != nil {
			return err
		}
		return printResult(a.Stdout, *out, docs, func(w io.Writer, wide bool) error {
			if exact {
				for i := range docs {
					if i > 0 {
						fmt.Fprintln(w)
					}
					if err := printKey(w, &docs[i]); err != nil {
						return err
					}
				}
				return nil
			}
			t := table{cols: []column{{head: "KEY"}, {head: "DEFAULT"}, {head: "TYPE", wide: true}, {head: "CHANGE", wide: true}, {head: "MEANING"}}}
			for _, d := range docs {
				def := "-"
				if d.Default != nil {
					def = *d.Default
				}
				meaning := d.Doc
				if d.Instead != "" {
					meaning = d.Status + ": " + d.Instead
				}
				t.add(d.Name, clip(def, 24), d.Type, d.Update, meaning)
			}
			return t.write(w, wide)
		})
	}
	return cmd
}

// clip shortens a cell that would push the others off the screen.
func clip(s string, n int) string {
	if r := []rune(s); len(r) > n {
		return string(r[:n-1]) + "…"
	}
	return s
}

// pickKeys selects keys by name or, where a word is no key, by what they contain. exact
// says that every word was a key.
func pickKeys(keys []config.Key, scope string, words []string, all bool) (docs []keyDoc, exact bool, err error) {
	docs = []keyDoc{}
	exact = len(words) > 0
	if len(words) == 0 {
		words = []string{""}
	}
	for _, word := range words {
		i := slices.IndexFunc(keys, func(k config.Key) bool { return k.Name == word })
		if i >= 0 {
			docs = append(docs, docOf(&keys[i], scope))
			continue
		}
		exact = false
		n := len(docs)
		var names []string
		for i := range keys {
			names = append(names, keys[i].Name)
			if strings.Contains(keys[i].Name, word) && (all || keys[i].Status == config.Honoured) {
				docs = append(docs, docOf(&keys[i], scope))
			}
		}
		if len(docs) > n {
			continue
		}
		f := &failure{what: fmt.Sprintf("no %s key %s", scope, word), code: ExitNotFound}
		if near := nearest(word, names); near != "" {
			f.hint = "did you mean " + near + "?"
		}
		return nil, false, f
	}
	return docs, exact, nil
}

// printKey explains one key.
func printKey(w io.Writer, d *keyDoc) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n  %s\n", d.Name, d.Doc)
	line := func(name, value string) {
		if value != "" {
			fmt.Fprintf(&b, "  %-8s %s\n", name, value)
		}
	}
	kind := d.Type
	if d.Unit != "" {
		kind += ", " + d.Unit
	}
	line("type", kind)
	def := "unset"
	if d.Default != nil {
		def = *d.Default
		if def == "" {
			def = `""`
		}
	}
	line("default", def)
	line("values", d.Values)
	line("change", d.Update)
	line("also", strings.Join(d.Synonyms, ", "))
	if d.Instead != "" {
		line(d.Status, d.Instead)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// configReport is the answer of `config check` and `start --check`.
type configReport struct {
	OK       bool     `json:"ok"`
	Errors   []string `json:"errors"`
	Warnings []string `json:"warnings"`
}

// checkConfig loads a configuration as a start would and prints what a start would say.
func (a *app) checkConfig(o config.LoadOptions, format string) error {
	_, warnings, err := config.Load(o)
	r := configReport{OK: err == nil, Errors: []string{}, Warnings: []string{}}
	for _, w := range warnings {
		r.Warnings = append(r.Warnings, w.String())
	}
	var joined interface{ Unwrap() []error }
	switch {
	case errors.Is(err, os.ErrNotExist):
		return &failure{what: err.Error(), code: ExitNotFound}
	case errors.As(err, &joined):
		for _, e := range joined.Unwrap() {
			r.Errors = append(r.Errors, e.Error())
		}
	case err != nil:
		r.Errors = append(r.Errors, err.Error())
	}
	err = printResult(a.Stdout, format, r, func(w io.Writer, _ bool) error {
		for _, t := range r.Errors {
			fmt.Fprintf(w, "error: %s\n", t)
		}
		for _, t := range r.Warnings {
			fmt.Fprintf(w, "warning: %s\n", t)
		}
		if r.OK {
			_, err := fmt.Fprintln(w, "the configuration is good")
			return err
		}
		return nil
	})
	if err == nil && !r.OK {
		return &failure{what: "the configuration would not start a node: " + plural(int64(len(r.Errors)), "mistake"), code: ExitFailed}
	}
	return err
}

func (a *app) configCheck() *cobra.Command {
	var set []string
	cmd := &cobra.Command{
		Use:   "check FILE",
		Short: "Say what a start with this file would say",
		Args:  wantArgs(false, "FILE"),
	}
	cmd.Flags().StringArrayVar(&set, "set", nil, "configuration `KEY=VALUE` on top of the file")
	out := outputFlag(cmd)
	cmd.RunE = func(_ *cobra.Command, args []string) error {
		return a.checkConfig(config.LoadOptions{File: args[0], Set: set}, *out)
	}
	return cmd
}

func (a *app) configConvert() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "convert FILE",
		Short: "Print a server.properties as kalda.yaml",
		Long: `Print a server.properties as a kalda.yaml that gives the same node. Keys without effect
become comments that say what does their job.

  kalda config convert /etc/kafka/server.properties > kalda.yaml`,
		Args: wantArgs(false, "FILE"),
		RunE: func(_ *cobra.Command, args []string) error {
			data, err := os.ReadFile(args[0])
			if errors.Is(err, os.ErrNotExist) {
				return &failure{what: err.Error(), code: ExitNotFound}
			}
			if err != nil {
				return err
			}
			yaml, err := config.Convert(args[0], data)
			if err != nil {
				return &failure{what: err.Error(), hint: "'kalda config check' names every mistake", code: ExitFailed, err: err}
			}
			_, err = a.Stdout.Write(yaml)
			return err
		},
	}
	return cmd
}
