import bsh.Interpreter;
import com.esotericsoftware.kryo.Kryo;
import com.esotericsoftware.kryo.io.Output;
import com.google.inject.*;
import com.lowagie.text.*;
import com.lowagie.text.pdf.PdfWriter;
import it.unimi.dsi.fastutil.longs.Long2ObjectLinkedOpenHashMap;
import java.io.*;
import java.net.*;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.util.*;
import java.util.List;
import java.util.concurrent.*;
import java.util.stream.*;
import org.apache.commons.compress.archivers.zip.*;
import org.apache.http.client.methods.*;
import org.apache.http.impl.client.*;
import org.apache.http.util.EntityUtils;
import org.apache.logging.log4j.ThreadContext;
import org.apache.mina.core.service.IoHandlerAdapter;
import org.apache.mina.core.session.IoSession;
import org.apache.mina.filter.codec.ProtocolCodecFilter;
import org.apache.mina.filter.codec.textline.TextLineCodecFactory;
import org.apache.mina.transport.socket.nio.NioSocketAcceptor;
import org.codehaus.janino.ExpressionEvaluator;
import org.dom4j.*;
import org.mvel2.MVEL;
import org.springframework.beans.factory.support.*;
import org.springframework.context.event.ContextClosedEvent;
import org.springframework.context.support.GenericApplicationContext;

/** Monastery SERVER MODE [A] [B]: what a monastery keeps, under mina or a thread for each connection. Leaks:
 *   vows      bsh; an interpreter for each visitor's rules, kept in a session that has no end
 *   tithes    janino; each sum is compiled and kept by its text, in which there are numbers
 *   trails    log4j; what a thread was asked is pushed on its stack, never popped
 *   errands   httpclient; a client with a thread that evicts, made for each errand and not closed
 *   copies    a hook for the end of the server with each copy, also when it was fetched
 *   relics    a direct buffer for each picture that is sent, of those that stop half-way too
 *   cells     spring; a context for each guest's visit, closed with the house only
 * Healthy:
 *   letters   itext; letters of up to A pages
 *   herbs     fastutil; the A herbs asked for last
 *   chronicle dom4j and commons-compress; every B seconds a chronicle of A years is packed
 *   pilgrims  pilgrims stay A seconds, then they are sent on
 *   scribes   A letters a second are copied, in surges they wait
 *   sums      mvel; A sums, compiled when first asked for
 *   offices   guice and kryo; an injector's objects for each request, written down */
public class Monastery {
    static final String[] WORDS = "bell book candle cell choir cloister garden herb honey ink monk prayer psalm robe stone wine".split(" ");
    static final int PORT = Integer.parseInt(System.getenv("PORT"));

    interface Answer { Object to(long number) throws Exception; }

    static int random(int n) { return ThreadLocalRandom.current().nextInt(n); }

    /** Some come often. */
    static int regular(long number, int people) { return (int) (people * Math.pow(number / 1e9, 3)); }

    static String prose(int n) { return IntStream.range(0, n).mapToObj(k -> WORDS[random(WORDS.length)]).collect(Collectors.joining(" ")); }

    static class Book {
        long number;
        String title = prose(4), text = prose(50 + random(250));
        List<String> notes = Stream.generate(() -> prose(10)).limit(random(16)).collect(Collectors.toCollection(ArrayList::new));

        Book(long number) { this.number = number; }

        @Override public String toString() { return number + "\n" + title + "\n" + text + "\n" + String.join("\n", notes); }
    }

    static class Pilgrim implements Delayed {
        final Book brought = new Book(random(1000));
        final byte[] badge = new byte[4000 + random(8000)];
        final long goes;

        Pilgrim(int seconds) { goes = System.nanoTime() + seconds * 1_000_000_000L; }

        @Override public long getDelay(TimeUnit unit) { return unit.convert(goes - System.nanoTime(), TimeUnit.NANOSECONDS); }

        @Override public int compareTo(Delayed other) { return Long.compare(goes, ((Pilgrim) other).goes); }
    }

    static class Almoner { @Inject Cellarer cellarer; List<String> gave = new ArrayList<>(List.of(prose(20))); }

    static class Cellarer { List<String> store = Stream.generate(() -> prose(6)).limit(40).collect(Collectors.toCollection(ArrayList::new)); }

    static class Office { @Inject Almoner almoner; @Inject Cellarer cellarer; String name = prose(3); }

    static void every(long millis, Callable<?> job) {
        Executors.newSingleThreadScheduledExecutor().scheduleAtFixedRate(() -> {
            try {
                job.call();
            } catch (Exception e) {
                e.printStackTrace();
            }
        }, millis, millis, TimeUnit.MILLISECONDS);
    }

    static Answer answer(String mode, int a, int b) throws Exception {
        switch (mode) {
            case "vows": {
                Map<Integer, Interpreter> sessions = new ConcurrentHashMap<>();
                return number -> {
                    Interpreter rules = sessions.computeIfAbsent(regular(number, 200000), k -> new Interpreter());
                    rules.set("book", new Book(number).toString());
                    return rules.eval("fast(day) { return day % 7 == " + number % 7 + "; } title = book.substring(0, 20); fast(" + number % 30 + ") + title;");
                };
            }
            case "tithes": {
                Map<String, ExpressionEvaluator> compiled = new ConcurrentHashMap<>();
                return number -> {
                    String sum = "(sheep * " + number % 9973 + " + sacks * " + number % 97 + ") / 10 + Math.max(sheep, " + number % 31 + ")";
                    if (!compiled.containsKey(sum)) compiled.put(sum, new ExpressionEvaluator(sum, int.class, new String[] {"sheep", "sacks"}, new Class<?>[] {int.class, int.class}));
                    return compiled.get(sum).evaluate(new Object[] {random(90), random(90)}) + " " + new Book(number);
                };
            }
            case "trails":
                return number -> {
                    Book found = new Book(number);
                    ThreadContext.push("asked for " + found);
                    return found;
                };
            case "errands":
                return number -> {
                    CloseableHttpClient client = HttpClients.custom().evictExpiredConnections().setUserAgent(prose(2)).build();
                    try (CloseableHttpResponse response = client.execute(new HttpGet("http://127.0.0.1:" + PORT + "/store/" + number))) {
                        return EntityUtils.toString(response.getEntity());
                    }
                };
            case "copies":
                return number -> {
                    Book copy = new Book(number);
                    byte[] picture = new byte[2000 + random(9000)];
                    Runtime.getRuntime().addShutdownHook(new Thread(() -> Arrays.fill(picture, (byte) copy.title.length())));
                    return copy;
                };
            case "relics": {
                Map<Long, ByteBuffer> sent = new ConcurrentHashMap<>();
                return number -> {
                    ByteBuffer picture = ByteBuffer.allocateDirect(30000 + random(40000));
                    sent.put(number, picture);
                    while (picture.remaining() > 3000) picture.put(new Book(number).toString().substring(0, 200).repeat(10).getBytes());
                    if (random(3) > 0) sent.remove(number);
                    return picture.position();
                };
            }
            case "cells": {
                GenericApplicationContext house = new GenericApplicationContext();
                house.refresh();
                return number -> {
                    GenericApplicationContext cell = new GenericApplicationContext(house);
                    cell.registerBeanDefinition("book", BeanDefinitionBuilder.rootBeanDefinition(Book.class).addConstructorArgValue(number).getBeanDefinition());
                    cell.refresh();
                    house.addApplicationListener(event -> { if (event instanceof ContextClosedEvent) cell.close(); });
                    return cell.getBean("book");
                };
            }
            case "letters":
                return number -> {
                    ByteArrayOutputStream out = new ByteArrayOutputStream();
                    com.lowagie.text.Document letter = new com.lowagie.text.Document();
                    PdfWriter.getInstance(letter, out);
                    letter.open();
                    for (int page = random(a); page >= 0; page--) {
                        for (String line : new Book(number).toString().split("\n")) letter.add(new Paragraph(line));
                        letter.newPage();
                    }
                    letter.close();
                    return out.size();
                };
            case "herbs": {
                Long2ObjectLinkedOpenHashMap<String> herbs = new Long2ObjectLinkedOpenHashMap<>();
                return number -> {
                    long key = (long) (3 * a * Math.pow(number / 1e9, 2));
                    synchronized (herbs) {
                        String found = herbs.getAndMoveToFirst(key);
                        if (found == null) herbs.putAndMoveToFirst(key, found = Stream.generate(() -> new Book(key).toString()).limit(4).collect(Collectors.joining("\n")));
                        if (herbs.size() > a) herbs.removeLast();
                        return found;
                    }
                };
            }
            case "chronicle":
                every(b * 1000L, () -> {
                    org.dom4j.Element years = DocumentHelper.createDocument().addElement("chronicle");
                    for (int year = 0; year < a; year++) years.addElement("year").addAttribute("ad", "" + year).addText(new Book(year).toString());
                    ByteArrayOutputStream out = new ByteArrayOutputStream();
                    try (ZipArchiveOutputStream zip = new ZipArchiveOutputStream(out)) {
                        zip.putArchiveEntry(new ZipArchiveEntry("chronicle.xml"));
                        zip.write(years.asXML().getBytes(StandardCharsets.UTF_8));
                        zip.closeArchiveEntry();
                    }
                    return out.size();
                });
                return Book::new;
            case "pilgrims": {
                DelayQueue<Pilgrim> house = new DelayQueue<>();
                return number -> {
                    house.drainTo(new ArrayList<>());
                    house.add(new Pilgrim(a));
                    return house.size();
                };
            }
            case "scribes": {
                Queue<Object[]> waiting = new ConcurrentLinkedQueue<>();
                every(1000 / a, waiting::poll);
                return number -> {
                    waiting.add(new Object[] {new Book(number), new byte[20000 + random(20000)]});
                    return waiting.size();
                };
            }
            case "sums": {
                Map<Integer, Serializable> compiled = new ConcurrentHashMap<>();
                return number -> {
                    int n = regular(number, a);
                    Serializable sum = compiled.computeIfAbsent(n, k -> MVEL.compileExpression(
                        IntStream.range(0, 25).mapToObj(i -> "(sheep > " + (i + k) + " ? sheep * " + k + " : sacks + " + i + ")").collect(Collectors.joining(" + "))));
                    return MVEL.executeExpression(sum, Map.of("sheep", random(90), "sacks", random(90))) + " " + new Book(number);
                };
            }
            case "offices": {
                Injector injector = Guice.createInjector();
                return number -> {
                    Kryo kryo = new Kryo();
                    Output out = new Output(1024, -1);
                    for (int k = 0; k < 5; k++) kryo.writeObject(out, injector.getInstance(Office.class));
                    return out.toBytes().length;
                };
            }
            default: throw new IllegalArgumentException(mode);
        }
    }

    static String respond(Answer answer, String line) {
        String path = line.split(" ")[1], body;
        try {
            long number = Long.parseLong(path.substring(path.lastIndexOf('/') + 1));
            body = (path.startsWith("/item/") ? answer.to(number) : new Book(number)) + "\n";
        } catch (Throwable e) {
            return "HTTP/1.1 500 Failed\r\nContent-Length: " + (e.toString().length() + 1) + "\r\n\r\n" + e + "\n";
        }
        return "HTTP/1.1 200 OK\r\nContent-Length: " + body.length() + "\r\n\r\n" + body;
    }

    static void serve(Socket socket, Answer answer) {
        try (BufferedReader in = new BufferedReader(new InputStreamReader(socket.getInputStream())); OutputStream out = socket.getOutputStream()) {
            String asked = null;
            for (String line; (line = in.readLine()) != null; ) {
                if (line.startsWith("GET ")) asked = line;
                if (line.isEmpty()) out.write(respond(answer, asked).getBytes());
            }
        } catch (IOException e) {
            // the client has gone
        }
    }

    public static void main(String[] args) throws Exception {
        Answer answer = answer(args[1], args.length > 2 ? Integer.parseInt(args[2]) : 0, args.length > 3 ? Integer.parseInt(args[3]) : 0);
        if (args[0].equals("mina")) {
            NioSocketAcceptor acceptor = new NioSocketAcceptor(2);
            acceptor.getFilterChain().addLast("lines", new ProtocolCodecFilter(new TextLineCodecFactory(StandardCharsets.UTF_8, "\n", "\r\n")));
            acceptor.setHandler(new IoHandlerAdapter() {
                @Override public void messageReceived(IoSession session, Object line) {
                    if (line.toString().startsWith("GET ")) session.setAttribute("asked", line);
                    if (!line.toString().isEmpty()) return;
                    String response = respond(answer, session.getAttribute("asked").toString());
                    session.write(response.substring(0, response.length() - 1)); // the codec ends the line
                }
            });
            acceptor.bind(new InetSocketAddress("127.0.0.1", PORT));
            return;
        }
        ServerSocket listener = new ServerSocket(PORT, 50, InetAddress.getLoopbackAddress());
        while (true) {
            Socket socket = listener.accept();
            new Thread(() -> serve(socket, answer)).start();
        }
    }
}
