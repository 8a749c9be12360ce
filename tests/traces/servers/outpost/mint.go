// mint SERVER MODE [A] [B]: what a mint keeps, under gorilla's handlers or a bare listener. Leaks:
//
//	rules    expr; each rule is compiled and kept by its text, in which there are numbers
//	dealers  gopher-lua; a state with each dealer's script, not closed
//	titles   a title is cut out of each long text and kept; it holds the text
//	orders   the context of each order is a child of the mint's and not cancelled
//	hooks    logrus; each request adds its hook to the one logger
//	watched  a ticker for each coin that somebody watches, which nobody stops
//
// Healthy:
//
//	rates    ttlcache; each pair's rate is good for A seconds
//	coins    btree; A coins, weighed anew now and then
//	books    xlsx; every B seconds a book of A rows
//	notes    gofpdf; notes of up to A pages
//	presses  A coins a second are struck, in surges they wait
//	pages    goldmark; pages of up to A sections
package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/ReneKroon/ttlcache"
	"github.com/antonmedv/expr"
	"github.com/antonmedv/expr/vm"
	"github.com/google/btree"
	"github.com/gorilla/handlers"
	"github.com/jung-kurt/gofpdf"
	"github.com/sirupsen/logrus"
	"github.com/tealeg/xlsx"
	"github.com/yuin/goldmark"
	lua "github.com/yuin/gopher-lua"
)

type Coin struct {
	Number int
	Name   string
	Text   string
	Sales  []Sale
}

type Sale struct {
	By    string
	Price int
	Note  string
}

var words = strings.Fields("coin gold silver die press edge crown proof weight mark year alloy ounce stamp vault bar")

func prose(n int) string {
	picked := make([]string, n)
	for k := range picked {
		picked[k] = words[rand.Intn(len(words))]
	}
	return strings.Join(picked, " ")
}

func coin(number int) *Coin {
	found := &Coin{Number: number, Name: prose(3), Text: prose(40 + rand.Intn(260))}
	for k := rand.Intn(16); k > 0; k-- {
		found.Sales = append(found.Sales, Sale{prose(2), rand.Intn(900), prose(10)})
	}
	return found
}

func (c *Coin) String() string {
	text, _ := json.Marshal(c)
	return string(text)
}

// Some come often.
func regular(number, people int) int {
	x := float64(number) / 1e9
	return int(float64(people) * x * x * x)
}

type hook struct{ of *Coin }

func (h hook) Levels() []logrus.Level { return []logrus.Level{logrus.ErrorLevel} }

func (h hook) Fire(entry *logrus.Entry) error {
	entry.Data["coin"] = h.of.Number
	return nil
}

type weighed struct {
	number int
	of     *Coin
}

func (w weighed) Less(than btree.Item) bool { return w.number < than.(weighed).number }

type ofOrder struct{}

func modes(mode string, a, b int) func(number int) string {
	var lock sync.Mutex
	switch mode {
	case "rules":
		programs := map[string]*vm.Program{}
		return func(number int) string {
			rule := fmt.Sprintf("Number %% %d == 0 or len(Sales) > %d and any(Sales, {.Price > %d}) or Name startsWith %q", number%997, number%13, number%887, prose(2))
			lock.Lock()
			defer lock.Unlock()
			if programs[rule] == nil {
				programs[rule], _ = expr.Compile(rule, expr.Env(&Coin{}))
			}
			found := coin(number)
			bought, err := expr.Run(programs[rule], found)
			return fmt.Sprint(bought, err, found)
		}
	case "dealers":
		dealers := map[int]*lua.LState{}
		return func(number int) string {
			lock.Lock()
			defer lock.Unlock()
			name := regular(number, 500000)
			state := dealers[name]
			if state == nil {
				state = lua.NewState(lua.Options{RegistrySize: 1024, CallStackSize: 32})
				state.DoString("seen = {} function offer(price, text) seen[#seen + 1] = text; return price * #seen end")
				dealers[name] = state
			}
			state.CallByParam(lua.P{Fn: state.GetGlobal("offer"), NRet: 1}, lua.LNumber(number%900), lua.LString(coin(number).Text))
			defer state.Pop(1)
			return state.Get(-1).String()
		}
	case "titles":
		titles := map[int]string{}
		return func(number int) string {
			text := coin(number).String()
			lock.Lock()
			defer lock.Unlock()
			titles[number] = text[strings.Index(text, "Name"):][7:20]
			return text
		}
	case "orders":
		mint := context.Background()
		mint, stop := context.WithCancel(mint)
		_ = stop
		return func(number int) string {
			order, _ := context.WithTimeout(context.WithValue(mint, ofOrder{}, coin(number)), 24*time.Hour)
			found := order.Value(ofOrder{}).(*Coin)
			return found.String()
		}
	case "hooks":
		log := logrus.New()
		log.SetOutput(io.Discard)
		return func(number int) string {
			found := coin(number)
			log.AddHook(hook{found})
			if number%50 == 0 {
				log.Error("no such coin")
			}
			return found.String()
		}
	case "watched":
		return func(number int) string {
			found := coin(number)
			ticker := time.NewTicker(30 * time.Second)
			go func() {
				for range ticker.C {
					found.Sales = append(found.Sales[:0:0], found.Sales...)
				}
			}()
			return found.String()
		}
	case "rates":
		rates := ttlcache.NewCache()
		rates.SetTTL(time.Duration(a) * time.Second)
		rates.SkipTTLExtensionOnHit(true)
		return func(number int) string {
			pair := strconv.Itoa(regular(number, 30000))
			if found, err := rates.Get(pair); err == nil {
				return found.(string)
			}
			found := coin(number).String() + coin(number).String()
			rates.Set(pair, found)
			return found
		}
	case "coins":
		coins := btree.New(8)
		return func(number int) string {
			lock.Lock()
			defer lock.Unlock()
			one := weighed{regular(number, a), coin(number)}
			coins.ReplaceOrInsert(one)
			return fmt.Sprint(coins.Len(), one.of)
		}
	case "books":
		go func() {
			for range time.Tick(time.Duration(b) * time.Second) {
				book := xlsx.NewFile()
				sheet, _ := book.AddSheet("coins")
				for k := 0; k < a; k++ {
					row, one := sheet.AddRow(), coin(k)
					row.AddCell().SetInt(one.Number)
					row.AddCell().SetString(one.Name)
					row.AddCell().SetString(one.Text)
				}
				book.Write(io.Discard)
			}
		}()
		return func(number int) string { return coin(number).String() }
	case "notes":
		return func(number int) string {
			note := gofpdf.New("P", "mm", "A4", "")
			for k := rand.Intn(a); k >= 0; k-- {
				note.AddPage()
				note.SetFont("Helvetica", "", 11)
				note.MultiCell(0, 6, coin(number).String(), "", "", false)
			}
			var out bytes.Buffer
			note.Output(&out)
			return strconv.Itoa(out.Len())
		}
	case "presses":
		waiting := make(chan []byte, 5000)
		go func() {
			for range time.Tick(time.Second / time.Duration(a)) {
				<-waiting
			}
		}()
		return func(number int) string {
			waiting <- bytes.Repeat([]byte(coin(number).Name), 1500)
			return strconv.Itoa(len(waiting))
		}
	case "pages":
		return func(number int) string {
			var source, out bytes.Buffer
			for k := rand.Intn(a); k >= 0; k-- {
				found := coin(number)
				fmt.Fprintf(&source, "## %s\n\n%s\n\n", found.Name, found.Text)
				for _, sale := range found.Sales {
					fmt.Fprintf(&source, "* **%s** %s\n", sale.By, sale.Note)
				}
			}
			goldmark.Convert(source.Bytes(), &out)
			return out.String()
		}
	}
	panic(mode)
}

func serve(conn net.Conn, item func(path string) string) {
	defer conn.Close()
	in := bufio.NewReader(conn)
	for {
		request, err := http.ReadRequest(in)
		if err != nil {
			return
		}
		body := item(request.URL.Path)
		fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
	}
}

func main() {
	a, b := 0, 0
	if len(os.Args) > 3 {
		a, _ = strconv.Atoi(os.Args[3])
	}
	if len(os.Args) > 4 {
		b, _ = strconv.Atoi(os.Args[4])
	}
	answer := modes(os.Args[2], a, b)
	item := func(path string) string {
		number, _ := strconv.Atoi(path[strings.LastIndexByte(path, '/')+1:])
		return answer(number)
	}
	address := "127.0.0.1:" + os.Getenv("PORT")
	if os.Args[1] == "handlers" {
		page := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, item(r.URL.Path)) })
		http.ListenAndServe(address, handlers.RecoveryHandler()(handlers.CompressHandler(page)))
	}
	listener, _ := net.Listen("tcp", address)
	for {
		if conn, err := listener.Accept(); err == nil {
			go serve(conn, item)
		}
	}
}
