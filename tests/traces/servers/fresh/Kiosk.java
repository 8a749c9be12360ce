import com.fasterxml.jackson.databind.ObjectMapper;
import com.google.common.cache.Cache;
import com.google.common.cache.CacheBuilder;
import com.google.common.collect.HashMultimap;
import com.google.common.eventbus.EventBus;
import com.google.common.eventbus.Subscribe;
import io.netty.bootstrap.ServerBootstrap;
import io.netty.buffer.ByteBuf;
import io.netty.buffer.PooledByteBufAllocator;
import io.netty.buffer.Unpooled;
import io.netty.channel.ChannelHandlerContext;
import io.netty.channel.ChannelInitializer;
import io.netty.channel.SimpleChannelInboundHandler;
import io.netty.channel.nio.NioEventLoopGroup;
import io.netty.channel.socket.SocketChannel;
import io.netty.channel.socket.nio.NioServerSocketChannel;
import io.netty.handler.codec.http.*;
import java.io.*;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.util.*;
import java.util.concurrent.*;
import java.util.concurrent.atomic.LongAdder;
import java.util.stream.*;
import javax.servlet.http.*;
import org.apache.catalina.startup.Tomcat;
import org.apache.catalina.session.StandardManager;

/** Kiosk MODE [A] [B]: what kiosks keep. Leaks:
 *   sessions   Tomcat; sessions that never time out, of clients without cookies
 *   bus        Tomcat; each request subscribes to Guava's event bus
 *   printer    Tomcat; one thread prints, slower than the requests come, and its queue has no bound
 *   multimap   Tomcat; who has seen what, by reader and paper
 *   direct     Netty; a direct buffer for each request that nobody releases
 *   offline    Netty; messages for channels that do not come back
 * Healthy:
 *   expiring   Tomcat; sessions of A seconds
 *   guava      Tomcat; Guava's cache of A KiB
 *   jackson    Tomcat; A editions at once, parsed again
 *   pooled     Netty; pooled buffers of up to A KiB
 *   press      Netty; every B seconds an index of A editions, beside the old one
 *   archive    Netty; the last A editions */
public class Kiosk {
    static final String[] WORDS = "paper news late edition city sport page of the day weather report inside more letters to editor".split(" ");
    static final ObjectMapper JSON = new ObjectMapper();
    static final int PORT = Integer.parseInt(System.getenv("PORT"));

    static int random(int n) { return ThreadLocalRandom.current().nextInt(n); }

    static String prose(int n) {
        return IntStream.range(0, n).mapToObj(k -> WORDS[random(WORDS.length)]).collect(Collectors.joining(" "));
    }

    public static class Article {
        public int number = random(1000);
        public String title = prose(5), text = prose(30 + random(150));
        public List<String> tags = List.of(prose(1), prose(1));
    }

    public static class Edition {
        public long id;
        public Date day = new Date();
        public List<Article> articles = new ArrayList<>();

        public Edition() { }

        Edition(long id) {
            this.id = id;
            for (int k = random(10); k >= 0; k--) articles.add(new Article());
        }
    }

    interface Answer { Object to(long number, HttpServletRequest request) throws Exception; }

    /** Some come often. */
    static int reader(long number, int readers) { return (int) (readers * (number / 1e9) * (number / 1e9)); }

    static void tomcat(int timeout, Answer answer) throws Exception {
        Tomcat tomcat = new Tomcat();
        tomcat.setBaseDir(Files.createTempDirectory("kiosk").toString());
        tomcat.setPort(PORT);
        tomcat.getConnector().setProperty("address", "127.0.0.1");
        tomcat.getConnector().setProperty("maxThreads", "20");
        var context = tomcat.addContext("", null);
        context.setBackgroundProcessorDelay(2);
        StandardManager manager = new StandardManager();
        manager.setPathname(null);
        manager.setProcessExpiresFrequency(1);
        context.setManager(manager);
        Tomcat.addServlet(context, "item", new HttpServlet() {
            @Override protected void doGet(HttpServletRequest request, HttpServletResponse response) throws IOException {
                if (timeout != 0) request.getSession().setMaxInactiveInterval(timeout);
                String path = request.getRequestURI();
                try {
                    byte[] text = JSON.writeValueAsBytes(answer.to(Long.parseLong(path.substring(path.lastIndexOf('/') + 1)), request));
                    response.setContentType("application/json");
                    response.setContentLength(text.length);
                    response.getOutputStream().write(text);
                } catch (IOException | RuntimeException e) {
                    throw e;
                } catch (Exception e) {
                    throw new IOException(e);
                }
            }
        });
        context.addServletMappingDecoded("/item/*", "item");
        tomcat.start();
        tomcat.getServer().await();
    }

    interface Write { ByteBuf of(long number, ChannelHandlerContext context) throws Exception; }

    static ByteBuf bytes(Object value) throws IOException { return Unpooled.wrappedBuffer(JSON.writeValueAsBytes(value)); }

    static void netty(Write write) throws Exception {
        new ServerBootstrap().group(new NioEventLoopGroup(1), new NioEventLoopGroup(2)).channel(NioServerSocketChannel.class)
            .childHandler(new ChannelInitializer<SocketChannel>() {
                @Override protected void initChannel(SocketChannel channel) {
                    channel.pipeline().addLast(new HttpServerCodec(), new HttpObjectAggregator(65536), new SimpleChannelInboundHandler<FullHttpRequest>() {
                        @Override protected void channelRead0(ChannelHandlerContext context, FullHttpRequest request) throws Exception {
                            String path = request.uri();
                            ByteBuf body = write.of(Long.parseLong(path.substring(path.lastIndexOf('/') + 1)), context);
                            var response = new DefaultFullHttpResponse(HttpVersion.HTTP_1_1, HttpResponseStatus.OK, body);
                            HttpUtil.setContentLength(response, body.readableBytes());
                            context.writeAndFlush(response);
                        }
                    });
                }
            }).bind("127.0.0.1", PORT).sync().channel().closeFuture().sync();
    }

    static void sessions() throws Exception {
        tomcat(-1, (number, request) -> {
            Edition edition = new Edition(number);
            request.getSession().setAttribute("reading", edition);
            return edition;
        });
    }

    static class Reader {
        final Edition edition;
        int since;

        Reader(Edition edition) { this.edition = edition; }

        @Subscribe public void printed(Long number) { since++; }
    }

    static void bus() throws Exception {
        EventBus bus = new EventBus();
        tomcat(0, (number, request) -> {
            Reader reader = new Reader(new Edition(number));
            bus.register(reader);
            if (number % 40 == 0) bus.post(number);
            return reader.edition;
        });
    }

    static void printer() throws Exception {
        var press = Executors.newSingleThreadExecutor();
        tomcat(0, (number, request) -> {
            Edition edition = new Edition(number);
            press.submit(() -> {
                Thread.sleep(40L * edition.articles.size()); // the paper
                return JSON.writeValueAsBytes(edition).length;
            });
            return edition;
        });
    }

    static void multimap() throws Exception {
        HashMultimap<String, Article> seen = HashMultimap.create();
        tomcat(0, (number, request) -> {
            Edition edition = new Edition(number);
            synchronized (seen) {
                for (Article one : edition.articles) seen.put("reader-" + reader(number, 20000), one);
            }
            return edition;
        });
    }

    static void direct() throws Exception {
        netty((number, context) -> {
            byte[] text = JSON.writeValueAsBytes(new Edition(number));
            ByteBuf copy = context.alloc().directBuffer(text.length); // for the log, which went
            copy.writeBytes(text);
            return Unpooled.wrappedBuffer(text);
        });
    }

    static void offline() throws Exception {
        Map<String, Deque<Edition>> boxes = new ConcurrentHashMap<>();
        Map<String, LongAdder> counts = new ConcurrentHashMap<>();
        netty((number, context) -> {
            String device = "device-" + reader(number, 100000);
            Edition edition = new Edition(number);
            boxes.computeIfAbsent(device, key -> new ConcurrentLinkedDeque<>()).add(edition);
            counts.computeIfAbsent(device, key -> new LongAdder()).increment();
            if (number % 8 == 0) boxes.remove(device); // this one fetches its messages
            return bytes(edition);
        });
    }

    static void expiring(int seconds) throws Exception {
        tomcat(seconds, (number, request) -> {
            List<Edition> editions = List.of(new Edition(number), new Edition(1), new Edition(2));
            request.getSession().setAttribute("reading", editions);
            return editions.get(0);
        });
    }

    static void guava(int kib) throws Exception {
        Cache<Integer, byte[]> cache = CacheBuilder.newBuilder().maximumWeight(kib * 1024L).weigher((Integer key, byte[] text) -> text.length).build();
        tomcat(0, (number, request) -> {
            int reader = reader(number, 30000);
            byte[] text = cache.get(reader, () -> JSON.writeValueAsBytes(List.of(new Edition(reader), new Edition(number))));
            return Map.of("text", new String(text, StandardCharsets.UTF_8));
        });
    }

    static void jackson(int editions) throws Exception {
        tomcat(0, (number, request) -> {
            String text = JSON.writeValueAsString(Stream.generate(() -> new Edition(number)).limit(1 + random(editions)).toArray());
            Edition[] again = JSON.readValue(text, Edition[].class);
            return again[random(again.length)];
        });
    }

    static void pooled(int kib) throws Exception {
        netty((number, context) -> {
            ByteBuf body = PooledByteBufAllocator.DEFAULT.directBuffer();
            byte[] text = JSON.writeValueAsBytes(new Edition(number));
            for (int until = random(kib * 1024); body.readableBytes() <= until; ) body.writeBytes(text);
            return body;
        });
    }

    static volatile Map<Long, Edition> index = Map.of();

    static void press(int editions, int seconds) throws Exception {
        Executors.newScheduledThreadPool(1).scheduleAtFixedRate(() -> {
            Map<Long, Edition> next = new HashMap<>();
            for (long k = 0; k < editions; k++) next.put(k, new Edition(k));
            index = next;
        }, seconds, seconds, TimeUnit.SECONDS);
        netty((number, context) -> bytes(index.getOrDefault(number % editions, new Edition(number))));
    }

    static void archive(int editions) throws Exception {
        Deque<Edition> kept = new ArrayDeque<>();
        netty((number, context) -> {
            Edition edition = new Edition(number);
            synchronized (kept) {
                kept.add(edition);
                if (kept.size() > editions) kept.remove();
            }
            return bytes(edition);
        });
    }

    public static void main(String[] args) throws Exception {
        int a = args.length > 1 ? Integer.parseInt(args[1]) : 0, b = args.length > 2 ? Integer.parseInt(args[2]) : 0;
        switch (args[0]) {
            case "sessions" -> sessions();
            case "bus" -> bus();
            case "printer" -> printer();
            case "multimap" -> multimap();
            case "direct" -> direct();
            case "offline" -> offline();
            case "expiring" -> expiring(a);
            case "guava" -> guava(a);
            case "jackson" -> jackson(a);
            case "pooled" -> pooled(a);
            case "press" -> press(a, b);
            case "archive" -> archive(a);
            default -> throw new IllegalArgumentException(args[0]);
        }
    }
}
