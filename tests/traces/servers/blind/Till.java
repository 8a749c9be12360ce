// java Till MODE [BYTES] [BOUND]: a server with its own pool; what a till in a shop does.
//   statics   a static map of receipts by number
//   listeners each request registers a listener that holds its receipt
//   threads   a thread local of a pool's threads that grows
//   direct    direct buffers, kept
//   late      receipts are kept after BOUND seconds only
//   soft      a cache of soft references, kept until the heap is short of room
//   ttl       receipts live BOUND seconds
//   lru       BOUND receipts
//   parse     parses and drops
//   report    a large report every BOUND requests
import com.sun.net.httpserver.HttpServer;
import java.lang.ref.SoftReference;
import java.net.InetSocketAddress;
import java.nio.ByteBuffer;
import java.util.*;
import java.util.concurrent.*;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.function.Supplier;
import java.util.stream.*;

public class Till {
    record Line(int number, String article, double price) {}
    record Receipt(long at, List<Line> lines) {}

    static final Map<Integer, Receipt> receipts = new ConcurrentHashMap<>();
    static final List<Supplier<Receipt>> listeners = Collections.synchronizedList(new ArrayList<>());
    static final ThreadLocal<List<Receipt>> own = ThreadLocal.withInitial(ArrayList::new);
    static final Queue<ByteBuffer> buffers = new ConcurrentLinkedQueue<>();
    static final Map<Integer, SoftReference<Receipt>> soft = new ConcurrentHashMap<>();
    static final Queue<Receipt> recent = new ConcurrentLinkedQueue<>();

    static Receipt receipt(int bytes) {
        return new Receipt(System.nanoTime(), IntStream.range(0, bytes / 100)
            .mapToObj(n -> new Line(n, "article " + Math.random(), n * 1.19)).collect(Collectors.toList()));
    }

    public static void main(String[] args) throws Exception {
        String mode = args[0];
        int bytes = args.length > 1 ? Integer.parseInt(args[1]) : 4000;
        int bound = args.length > 2 ? Integer.parseInt(args[2]) : 20000;
        long began = System.nanoTime();
        AtomicInteger served = new AtomicInteger();
        HttpServer server = HttpServer.create(
            new InetSocketAddress("127.0.0.1", Integer.parseInt(System.getenv("PORT"))), 0);
        server.setExecutor(Executors.newFixedThreadPool(4));
        server.createContext("/", exchange -> {
            int n = served.incrementAndGet();
            Receipt one = receipt(bytes);
            switch (mode) {
                case "statics" -> receipts.put(n, one);
                case "listeners" -> listeners.add(() -> one);
                case "threads" -> own.get().add(one);
                case "direct" -> buffers.add(ByteBuffer.allocateDirect(bytes).put(0, (byte) 1));
                case "late" -> { if (System.nanoTime() - began > bound * 1_000_000_000L) receipts.put(n, one); }
                case "soft" -> soft.put(n, new SoftReference<>(one));
                case "ttl" -> {
                    recent.add(one);
                    while (recent.peek().at() < System.nanoTime() - bound * 1_000_000_000L) recent.poll();
                }
                case "lru" -> receipts.put(n % bound, one);
                case "report" -> { if (n % bound == 0) Stream.generate(() -> receipt(bytes)).limit(400).toList(); }
                default -> {}
            }
            byte[] body = one.lines().stream().collect(Collectors.groupingBy(line -> line.number() % 7,
                Collectors.summingDouble(Line::price))).toString().getBytes();
            exchange.sendResponseHeaders(200, body.length);
            exchange.getResponseBody().write(body);
            exchange.close();
        });
        server.start();
    }
}
