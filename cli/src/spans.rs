//! Spans to a collector by OTLP, for programs built with the feature `otlp`. A span that names
//! its trace (`traceparent`) continues it, so that the coordinator's grant, the worker's shard
//! and the calls between them are one trace.

use crate::failure::{Failure, Outcome};
use crate::settings::LogSettings;

/// The way of spans to their collector, if there is one.
#[derive(Debug)]
pub(crate) struct Spans {
    #[cfg(feature = "otlp")]
    provider: Option<opentelemetry_sdk::trace::SdkTracerProvider>,
}

#[cfg(not(feature = "otlp"))]
mod without {
    use super::*;

    impl Spans {
        /// Refuses an endpoint that this program has no use for.
        pub(crate) fn start(settings: &LogSettings) -> Outcome<Self> {
            if settings.otlp_endpoint.is_empty() {
                return Ok(Self {});
            }
            let what = "`log.otlp_endpoint` is set, and this program sends no spans";
            Err(Failure::usage(what).hint("build it with `cargo build --release --features otlp`"))
        }

        /// Sends what is left.
        pub(crate) fn end(self) {
            let Self {} = self;
        }
    }
}

#[cfg(feature = "otlp")]
pub(crate) use with::layer;

#[cfg(feature = "otlp")]
mod with {
    use std::collections::HashMap;

    use opentelemetry::propagation::TextMapPropagator;
    use opentelemetry::trace::TracerProvider;
    use opentelemetry_otlp::{SpanExporter, WithExportConfig};
    use opentelemetry_sdk::Resource;
    use opentelemetry_sdk::propagation::TraceContextPropagator;
    use opentelemetry_sdk::trace::SdkTracerProvider;
    use tracing::Subscriber;
    use tracing::field::{Field, Visit};
    use tracing::span::{Attributes, Id};
    use tracing_opentelemetry::OpenTelemetrySpanExt;
    use tracing_subscriber::Layer;
    use tracing_subscriber::layer::Context;
    use tracing_subscriber::registry::LookupSpan;

    use super::*;
    use crate::settings::set;

    impl Spans {
        /// Makes the way to the collector; must be called within the runtime.
        pub(crate) fn start(settings: &LogSettings) -> Outcome<Self> {
            let Some(endpoint) = set(&settings.otlp_endpoint) else {
                return Ok(Self { provider: None });
            };
            let exporter = SpanExporter::builder()
                .with_tonic()
                .with_endpoint(endpoint)
                .build()
                .map_err(|error| Failure::usage(format!("`log.otlp_endpoint`: {error}")))?;
            let resource = Resource::builder().with_service_name("quire").build();
            let provider = SdkTracerProvider::builder()
                .with_batch_exporter(exporter)
                .with_resource(resource)
                .build();
            Ok(Self {
                provider: Some(provider),
            })
        }

        /// Sends what is left.
        pub(crate) fn end(self) {
            if let Some(provider) = self.provider {
                // A collector that is away has no part in how the command ends.
                drop(provider.shutdown());
            }
        }
    }

    /// What gives spans to the collector, if there is one.
    pub(crate) fn layer<S>(spans: &Spans) -> Option<impl Layer<S> + use<S>>
    where
        S: Subscriber + for<'span> LookupSpan<'span>,
    {
        let tracer = spans.provider.as_ref()?.tracer("quire");
        // Parents are set before the span begins for the collector.
        let sender = tracing_opentelemetry::layer().with_tracer(tracer);
        Some(Parents.and_then(sender))
    }

    /// Continues the traces that spans name.
    struct Parents;

    /// The trace that a span names, until it is entered.
    struct Named(String);

    impl<S> Layer<S> for Parents
    where
        S: Subscriber + for<'span> LookupSpan<'span>,
    {
        fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
            let mut named = FindTraceparent(None);
            attributes.record(&mut named);
            if let (Some(traceparent), Some(span)) = (named.0, context.span(id)) {
                span.extensions_mut().insert(Named(traceparent));
            }
        }

        fn on_enter(&self, id: &Id, context: Context<'_, S>) {
            let named = context
                .span(id)
                .and_then(|span| span.extensions_mut().remove::<Named>());
            if let Some(Named(traceparent)) = named {
                let carrier = HashMap::from([("traceparent".to_owned(), traceparent)]);
                let parent = TraceContextPropagator::new().extract(&carrier);
                // A span that began before it was named stays where it is.
                drop(tracing::Span::current().set_parent(parent));
            }
        }
    }

    struct FindTraceparent(Option<String>);

    impl Visit for FindTraceparent {
        fn record_str(&mut self, field: &Field, value: &str) {
            if field.name() == "traceparent" && !value.is_empty() {
                self.0 = Some(value.to_owned());
            }
        }

        fn record_debug(&mut self, _: &Field, _: &dyn std::fmt::Debug) {}
    }
}
